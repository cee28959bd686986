//! A RabbitMQ node of a test alone, which it may bend.

use std::process::{Command, Stdio};

use tempfile::TempDir;

/// One node, gone with its owner.
pub(super) struct Node {
    /// Where it listens.
    pub(super) url: String,
    /// Goes after the node has ended: without it the node would not be found any more.
    home: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Node {
    /// Starts a node in a directory, with knobs of `scripts/private-broker`.
    pub(super) fn start(home: TempDir, environment: Vec<(&'static str, String)>) -> Self {
        let mut node = Self { url: String::new(), home, environment };
        let said = node.run("start", &[]);
        let url = said.lines().find_map(|line| line.strip_prefix("AMQP_URL="));
        node.url = url.unwrap_or_else(|| panic!("no URL of the broker: {said}")).to_owned();
        node
    }

    /// Runs `rabbitmqctl`.
    pub(super) fn ctl(&self, arguments: &[&str]) -> String {
        self.run("ctl", arguments)
    }

    /// Adds a user, its password its name, with permissions to configure, write and read, and
    /// gives the URL to connect by.
    pub(super) fn user(&self, name: &str, permissions: [&str; 3]) -> String {
        self.ctl(&["add_user", name, name]);
        self.permit(name, permissions);
        self.url.replace("guest:guest", &format!("{name}:{name}"))
    }

    /// Gives a user other permissions.
    pub(super) fn permit(&self, name: &str, [configure, write, read]: [&str; 3]) {
        self.ctl(&["set_permissions", "-p", "/", name, configure, write, read]);
    }

    /// Has it think that it is short of memory, or not.
    pub(super) fn be_short_of_memory(&self, is_short: bool) {
        let watermark = if is_short { "0.0000001" } else { "0.6" };
        let set = format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark}).");
        self.ctl(&["eval", &set]);
    }

    fn run(&self, what: &str, arguments: &[&str]) -> String {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-broker"))
            .arg(what)
            .arg(self.home.path().join("node"))
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("RMQ_OWNER_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "scripts/private-broker {what} {arguments:?}: {said}");
        said
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.run("wipe", &[]);
    }
}
