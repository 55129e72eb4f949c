//! Broken releases of the README's recipes: each is rolled back, and the old workers serve on.
//!
//! A recipe is started as it is printed. While clients ask all the time, the link `current` is
//! switched to a release that cannot be loaded, one that dies a second after it said that it is
//! ready, and one that crashes under its first request. Each is deployed by a reload and by an
//! upgrade.

use std::fs;
use std::path::Path;

use super::alone;
use super::kitchen::{Ask, Kitchen};
use super::releases::{Change, Fault, Releases, program, text};
use serde_json::Value;

use crate::common::load::{Kind, Target, get, request};
use crate::common::support::copies::executable;
use crate::stage::{have, named};

/// Deploys what is broken at loading, soon after, and under a request.
fn broken(name: &'static str, needs: &[&str], ask: Ask, changes: &[Change; 3]) {
    if !have(&[&["curl"], needs].concat()) {
        return;
    }
    let _alone = alone();
    let mut releases = None;
    let kitchen = Kitchen::open(name, |work, port| {
        releases = Some(Releases::new(work, port));
    });
    let releases = releases.expect("prepared");
    for (fault, change) in Fault::ALL.into_iter().zip(changes) {
        releases.break_into(fault.name(), change);
    }
    let switch = |release: &str| {
        releases.switch(release);
        kitchen.build();
    };
    for verb in ["reload", "upgrade"] {
        for (fault, change) in Fault::ALL.into_iter().zip(changes) {
            kitchen.deploy(fault, change.cause, ask, || {
                switch(fault.name());
                kitchen.run(&["pf-ctl", verb, "app.pid", "--quiet"])
            });
            switch("good");
        }
    }
    let good = kitchen.run(&["pf-ctl", "reload", "app.pid", "--quiet"]);
    assert_eq!(good.code, Some(0), "{name}: {good:?}\n{}", kitchen.said());
    kitchen.close();
}

/// A good answer, but lighttpd's.
fn hello(target: &Target, _: &str) -> Result<(), (Kind, String)> {
    get(target, "hello")
}

const EXITED: &str = "exited with code 1";
#[test]
fn r2_the_standard_library_of_python() {
    let changes = [
        text(
            "worker.py",
            "import http.server,",
            "import does_not_exist, http.server,",
            EXITED,
        ),
        text(
            "worker.py",
            "while not stopping:",
            "__import__('threading').Timer(1, os._exit, [1]).start()\nwhile not stopping:",
            EXITED,
        ),
        text(
            "worker.py",
            "        text = f",
            "        os._exit(1)\n        text = f",
            EXITED,
        ),
    ];
    broken("python", &["python3"], hello, &changes);
}

/// Readiness and, a second later, the end.
const PYTHON_SOON: &str =
    "__import__('threading').Timer(1, os._exit, [1]).start(); os.write(9, b\"\\n\")";

#[test]
fn r2_gunicorn() {
    let changes = [
        text(
            "app.py",
            "import os",
            "import os, does_not_exist",
            "exited with code 3 before",
        ),
        text(
            "gunicorn.conf.py",
            "os.write(9, b\"\\n\")",
            PYTHON_SOON,
            EXITED,
        ),
        text(
            "app.py",
            "    start_response(",
            "    os._exit(1)\n    start_response(",
            EXITED,
        ),
    ];
    broken("gunicorn", &["gunicorn"], hello, &changes);
}

#[test]
fn r2_uvicorn() {
    let changes = [
        text("app.py", "import os", "import os, does_not_exist", EXITED),
        text("serve.py", "os.write(9, b\"\\n\")", PYTHON_SOON, EXITED),
        text(
            "app.py",
            "    assert scope",
            "    if scope[\"type\"] == \"http\": os._exit(1)\n    assert scope",
            EXITED,
        ),
    ];
    broken("uvicorn", &["uvicorn", "python3"], hello, &changes);
}

#[test]
fn r2_node() {
    let changes = [
        text(
            "worker.mjs",
            "import fs",
            "import \"./does-not-exist.mjs\";\nimport fs",
            EXITED,
        ),
        text(
            "worker.mjs",
            "() => fs.writeSync(9, \"\\n\")",
            "() => { fs.writeSync(9, \"\\n\"); setTimeout(() => { throw 1; }, 1000); }",
            EXITED,
        ),
        text(
            "worker.mjs",
            "    response.end(",
            "    response.does_not_exist(",
            EXITED,
        ),
    ];
    broken("node", &["node"], hello, &changes);
}

#[test]
fn r2_puma() {
    let changes = [
        text(
            "config.ru",
            "run ->",
            "require \"does_not_exist\"\nrun ->",
            EXITED,
        ),
        text(
            "config.ru",
            "IO.new(9)",
            "Thread.new { sleep 1; exit! 1 }\nIO.new(9)",
            EXITED,
        ),
        text("config.ru", "{ [200,", "{ exit! 1; [200,", EXITED),
    ];
    broken("puma", &["puma"], hello, &changes);
}

#[test]
fn r2_a_perl_application_for_server_starter() {
    let changes = [
        text(
            "app.psgi",
            "my $app",
            "use DoesNotExist; my $app",
            "exited with code 2",
        ),
        text(
            "app.psgi",
            "open my",
            "alarm 1; open my",
            "was killed by ALRM",
        ),
        text("app.psgi", "sub { [200,", "sub { exit 1; [200,", EXITED),
    ];
    broken("perl", &["plackup", "start_server"], hello, &changes);
}

#[test]
fn r2_go() {
    let changes = [
        text(
            "worker.go",
            "func main() {",
            "func init() { os.Exit(1) }\n\nfunc main() {",
            EXITED,
        ),
        text(
            "worker.go",
            "\t<-stop.Done()",
            "\tlate, _ := context.WithTimeout(context.Background(), 1e9)\n\t\
             go func() { <-late.Done(); os.Exit(1) }()\n\t<-stop.Done()",
            EXITED,
        ),
        text(
            "worker.go",
            "\t\tfmt.Fprintf(",
            "\t\tos.Exit(1)\n\t\tfmt.Fprintf(",
            EXITED,
        ),
    ];
    broken("go", &["go"], hello, &changes);
}

/// A server that says that it is ready, and crashes under its first request a second later.
const CRASHES: &str = r#"#!/usr/bin/python3
import os, socket, time
master = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
master.connect(os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1))
master.send(b"READY=1")
time.sleep(1)
socket.socket(fileno=3).accept()
os._exit(1)
"#;

#[test]
fn r2_nginx() {
    // A second after the 200 ms.
    let soon = "#!/bin/sh\n(sleep 1.2; kill -KILL $$) & exec /usr/sbin/nginx \"$@\"\n";
    let changes = [
        text("nginx.conf", "events {}", "events {", EXITED),
        program("nginx", soon, "was killed by KILL"),
        program("nginx", CRASHES, EXITED),
    ];
    broken("nginx", &["nginx", "python3"], hello, &changes);
}

#[test]
fn r2_a_daemon_for_socket_activation() {
    let ask: Ask = |target, _| get(target, "document-root");
    let soon = "#!/bin/sh\n(sleep 1.2; kill -KILL $$) & exec /usr/sbin/lighttpd \"$@\"\n";
    let changes = [
        text(
            "lighttpd.conf",
            "\"enable\"",
            "\"enable",
            "exited with code",
        ),
        program("lighttpd", soon, "was killed by KILL"),
        program("lighttpd", CRASHES, EXITED),
    ];
    broken("lighttpd", &["lighttpd", "python3"], ask, &changes);
}

/// Two deploys at once: one comes after the other, and link and service agree.
#[test]
fn two_deploys_at_once_follow_each_other() {
    let _alone = alone();
    let kitchen = Kitchen::open("releases", |work, _| {
        for (file, text) in named("file") {
            fs::write(work.join(file), text).expect("written");
        }
    });
    let both = "./deploy.sh 1 & first=$!; ./deploy.sh 2 && wait \"$first\"";
    for _ in 0..2 {
        let ended = kitchen.run(&["bash", "-c", both]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let serves = kitchen.run(&["pf-status", "app.pid", "--json"]).stdout;
        let serves: Value = serde_json::from_str(&serves).expect("a status");
        let current = fs::canonicalize(kitchen.at("current")).expect("a link");
        assert_eq!(serves["cwd"].as_str().map(Path::new), Some(&*current));
    }
    kitchen.close();
}

/// The recipe's own releases, and its script that deploys them.
#[test]
fn r2_releases_behind_a_link() {
    if !have(&["python3"]) {
        return;
    }
    let _alone = alone();
    let kitchen = Kitchen::open("releases", |work, _| {
        for (file, text) in named("file") {
            fs::write(work.join(file), text).expect("written");
        }
    });
    let soon = "#!/bin/sh\n(sleep 1; kill -KILL $$) & exec hello\n";
    let releases = [
        (Fault::Loading, "#!/bin/sh\nexit 1\n", EXITED),
        (Fault::Soon, soon, "was killed by KILL"),
        (Fault::Request, CRASHES, EXITED),
    ];
    for (fault, app, cause) in releases {
        let release = kitchen.at("releases").join(fault.name());
        fs::create_dir(&release).expect("a directory");
        executable(&release.join("app"), app);
        kitchen.deploy(fault, cause, request, || {
            let ended = kitchen.run(&["./deploy.sh", fault.name()]);
            let says = format!(
                "release {} does not come up; releases/1 serves on",
                fault.name()
            );
            assert!(ended.stdout.contains(&says), "{ended:?}");
            ended
        });
        let current = fs::read_link(kitchen.at("current")).expect("a link");
        assert_eq!(current, Path::new("releases/1"));
    }
    kitchen.close();
}
