//! The first ten minutes: what README and docs/getting-started.md tell a newcomer to type succeeds, in
//! their order, against a demo that is kept running.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the programs are.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eko-worker")).parent().unwrap()
}

/// A demo that `scripts/demo --keep` has left running.
struct Demo {
    dir: TempDir,
    /// What it said.
    said: String,
}

impl Demo {
    /// Starts it with the programs that are built, in a directory of its own.
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        symlink(built(), dir.path().join("debug")).unwrap();
        let mut demo = Self { dir, said: String::new() };
        // What it leaves running would hold a pipe open.
        let said = demo.dir.path().join("said");
        let output = demo.bash(&format!("scripts/demo --keep >{} 2>&1", said.display()));
        let said = std::fs::read_to_string(said).unwrap();
        assert!(output.status.success(), "{said}");
        demo.said = said;
        demo
    }

    /// The broker's address, as the demo tells a newcomer.
    fn url(&self) -> String {
        let line = self.said.lines().find_map(|line| line.trim().strip_prefix("export AMQP_URL="));
        line.unwrap().trim_matches('\'').to_owned()
    }

    fn bash(&self, script: &str) -> Output {
        let mut bash = Command::new("timeout");
        bash.args(["120", "bash", "-euo", "pipefail", "-c", script]).current_dir(ROOT);
        bash.env_remove("AMQP_PREFIX").env("DEMO_IS_BUILT", "1");
        if self.said.is_empty() {
            bash.env_remove("AMQP_URL").env("CARGO_TARGET_DIR", self.dir.path());
        } else {
            bash.env("AMQP_URL", self.url());
        }
        bash.output().unwrap()
    }

    /// Runs what a document has, and gives what it said. Cargo may have built elsewhere.
    fn succeeds(&self, script: &str) -> String {
        let output =
            self.bash(&script.replace("target/debug/", &format!("{}/", built().display())));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let more = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}{more}");
        said
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.said.clear();
        self.bash("scripts/demo stop");
    }
}

/// The code blocks of a document in a language, without what makes them a part of a list.
fn blocks(path: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let (mut blocks, mut open): (Vec<Vec<&str>>, Option<&str>) = (Vec::new(), None);
    let fence = format!("```{language}");
    for line in text.lines() {
        match open {
            Some(_) if line.trim_start() == "```" => open = None,
            Some(indent) => {
                blocks.last_mut().unwrap().push(line.strip_prefix(indent).unwrap_or(line));
            }
            None if line.trim_start() == fence => {
                open = line.strip_suffix(&fence);
                blocks.push(Vec::new());
            }
            None => {}
        }
    }
    blocks.into_iter().map(|lines| lines.join("\n")).collect()
}

/// The one block that has this in it.
fn block(path: &str, language: &str, part: &str) -> String {
    let mut found: Vec<_> =
        blocks(path, language).into_iter().filter(|block| block.contains(part)).collect();
    assert_eq!(found.len(), 1, "{part} in {path}");
    found.remove(0)
}

/// Where the tools of an example's language are; `None` where they cannot be had here.
fn tools(language: &str) -> Option<PathBuf> {
    let script = format!("{ROOT}/scripts/example-tools");
    let tools = Command::new("bash").args([&script, language]).output().unwrap();
    if !tools.status.success() {
        eprintln!("!!! SKIPPED: no {language}: its first commands were not tried");
        return None;
    }
    let words = String::from_utf8(tools.stdout).unwrap();
    Some(Path::new(words.lines().next().unwrap()).parent().unwrap().to_owned())
}

const GETTING_STARTED: &str = "docs/getting-started.md";

#[test]
fn the_first_commands_of_readme_and_getting_started_succeed_while_the_demo_is_kept() {
    let demo = Demo::start();

    let script = block("README.md", "sh", "publish refund_otp");
    let script = script.lines().filter(|line| !line.starts_with("export AMQP_URL=…"));
    let said = demo.succeeds(&script.collect::<Vec<_>>().join("\n"));
    assert!(said.contains(": succeeded\n") && said.contains("otp_ref_id: "), "{said}");

    let script = block(GETTING_STARTED, "sh", "# Python");
    let part = |from: &str| {
        let part = script.split("# ").find(|part| part.starts_with(from)).unwrap();
        part.lines().skip(1).collect::<Vec<_>>().join("\n")
    };
    let said = demo.succeeds(&part("a shell"));
    assert!(said.contains(": succeeded\n"), "{said}");
    if let Some(bin) = tools("python") {
        let path = format!("export PATH={}:$PATH\n", bin.display());
        let said = demo.succeeds(&format!("{path}{}", part("Python")));
        assert!(said.contains("eko.refund_otp.succeeded"), "{said}");
        python_of_the_page(&demo, &path);
    }
    if tools("node").is_some() {
        let said = demo.succeeds(&part("Node.js"));
        assert!(said.contains("eko.refund_otp.succeeded"), "{said}");
    }
}

/// The two blocks of Python, as one program, and the commands of a shell beside it.
fn python_of_the_page(demo: &Demo, path: &str) {
    let publish = block(GETTING_STARTED, "python", "basic_publish");
    let read = block(GETTING_STARTED, "python", "channel.consume");
    let end = "\n    if event[\"type\"].startswith(\"eko.refund.\"):\n        break\n";
    let program = demo.dir.path().join("page.py");
    std::fs::write(&program, format!("{publish}\n{read}{end}")).unwrap();
    let refund = match Command::new("amqp-publish").arg("--help").output() {
        Ok(_) => block(GETTING_STARTED, "sh", "amqp-publish"),
        Err(_) => {
            eprintln!("!!! SKIPPED: no amqp-tools: a refund is published by the worker's binary");
            "echo 123456 | target/debug/eko-worker publish refund --tid 13192470 --otp-file -"
                .to_owned()
        }
    };
    // The refund's event ends the program, which has bound its queue by then.
    let script = format!(
        "{path}python -u {} > {} & reader=$!\nuntil grep -q refund_otp.succeeded {}; do sleep 0.1; done\n\
         {refund}\nwait $reader",
        program.display(),
        demo.dir.path().join("page.out").display(),
        demo.dir.path().join("page.out").display(),
    );
    demo.succeeds(&script);
    let said = std::fs::read_to_string(demo.dir.path().join("page.out")).unwrap();
    assert!(said.contains("eko.refund_otp.succeeded ord-7731-otp"), "{said}");
    assert!(said.contains("eko.refund.succeeded"), "{said}");
}
