//! RabbitMQ nodes of a test alone, so that they can be killed, frozen and bent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::rig::process::signal;

/// How much of a node's log is shown where a test fails.
const LAST_LINES: usize = 400;

/// One node, gone with its owner.
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) url: String,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// Goes after the node has ended: without it the node would not be found any more.
    _home: Option<TempDir>,
}

impl Node {
    /// Starts a node in a directory.
    pub(crate) fn start(dir: PathBuf) -> Self {
        Self::start_with(dir, Vec::new())
    }

    /// Starts a node in a directory that goes with it, with knobs of `scripts/private-broker`.
    pub(crate) fn start_in(home: TempDir, environment: Vec<(String, String)>) -> Self {
        let dir = home.path().join("node");
        Self { url: String::new(), dir, environment, _home: Some(home) }.started()
    }

    fn started(mut self) -> Self {
        self.url = self.start_again();
        self
    }

    /// Starts a node with knobs of `scripts/private-broker`.
    pub(crate) fn start_with(dir: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self { url: String::new(), dir, environment, _home: None }.started()
    }

    /// Starts it once more after its end; where it listens.
    pub(crate) fn start_again(&self) -> String {
        let said = self.run("start", &[]);
        let url = said.lines().find_map(|line| line.strip_prefix("AMQP_URL="));
        url.unwrap_or_else(|| panic!("no URL of the broker: {said}")).to_owned()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&self) {
        self.run("kill9", &[]);
    }

    /// Stops it in good order.
    pub(crate) fn stop(&self) {
        self.run("stop", &[]);
    }

    /// A port that nobody has.
    pub(crate) fn free_port() -> String {
        let output = Command::new(script()).arg("free-port").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The name that it has in Erlang.
    pub(crate) fn name(&self) -> String {
        let said = self.run("env", &[]);
        let name = said.lines().find_map(|line| line.strip_prefix("export RABBITMQ_NODENAME="));
        name.expect("a node has a name").trim_matches('\'').to_owned()
    }

    /// Runs `rabbitmqctl`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.run("ctl", arguments)
    }

    /// Evaluates an Erlang expression in it.
    pub(crate) fn eval(&self, expression: &str) -> String {
        self.ctl(&["eval", expression])
    }

    /// Writes to the disk which queues there are. RabbitMQ 3.10 does so half a second after one
    /// was declared, and what it is killed without never has a leader again.
    pub(crate) fn write_down_its_queues(&self) {
        self.eval("[ok = dets:sync(Table) || Table <- dets:all()].");
    }

    /// Adds a user, its password its name, with permissions to configure, write and read, and
    /// gives the URL to connect by.
    pub(crate) fn user(&self, name: &str, permissions: [&str; 3]) -> String {
        self.ctl(&["add_user", name, name]);
        self.permit(name, permissions);
        self.url.replace("guest:guest", &format!("{name}:{name}"))
    }

    /// Gives a user other permissions.
    pub(crate) fn permit(&self, name: &str, [configure, write, read]: [&str; 3]) {
        self.ctl(&["set_permissions", "-p", "/", name, configure, write, read]);
    }

    /// Has it think that it is short of memory, or not.
    pub(crate) fn be_short_of_memory(&self, is_short: bool) {
        let watermark = if is_short { "0.0000001" } else { "0.6" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark})."));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.join("node.pid")).unwrap();
        signal(pid.trim(), name);
    }

    /// Runs `scripts/private-broker` to its end; its output.
    fn run(&self, what: &str, arguments: &[&str]) -> String {
        let output = Command::new(script())
            .arg(what)
            .arg(&self.dir)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RMQ_OWNER_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "a broker that goes down must be one of the test's own (a soak with \
             EKO_SOAK_BROKER_KILLS=0 goes without): scripts/private-broker {what} {arguments:?} \
             failed"
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Node {
    /// The last lines of its log.
    fn last_lines(&self) -> String {
        let entries = std::fs::read_dir(self.dir.join("log")).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let text = texts.max_by_key(String::len).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last of the broker ---\n{}", self.last_lines());
        }
        self.run("wipe", &[]);
    }
}

fn script() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-broker"))
}
