//! Why a worker ended, for causes that no other test is about (R70).

use serde_json::{Value, json};

use crate::common::service::Scene;

fn last_exit(status: &Value) -> Value {
    status["slots"][0]["last_exit"].clone()
}

#[test]
fn r70_a_core_is_told_as_the_kernel_tells_it() {
    // The kernel writes no core where the limit is 0.
    for (limit, core) in [("0", Some(false)), ("unlimited", None)] {
        let scene = Scene::new();
        let dir = scene.dir().display();
        scene.app(&format!(
            "cd {dir}; ulimit -c {limit} 2>/dev/null; say up; up; kill -s SEGV $$; rest"
        ));
        let master = scene.master("-n 1 --ready fd=9 --backoff 1h..1h").spawn();
        let status = master.until("it died", |status| status["workers"]["backoff"] == 1);
        let exit = last_exit(&status);
        assert_eq!(
            (&exit["cause"], &exit["signal"]),
            (&json!("signaled"), &json!("SEGV"))
        );
        let told = exit["core"].as_bool().expect("it is known");
        assert!(core.is_none_or(|core| core == told), "{exit}");
        assert_eq!(
            master.log().contains("was killed by SEGV (core dumped)"),
            told
        );
        // Where cores are plain files, there is one if it was told.
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        if pattern.trim() == "core" {
            let left = std::fs::read_dir(scene.dir())
                .expect("a directory")
                .flatten();
            let is_core = |name: &str| name == "core" || name.starts_with("core.");
            let any = left
                .into_iter()
                .any(|file| file.file_name().to_str().is_some_and(is_core));
            assert_eq!(any, told);
        }
        drop(master);
    }
}

#[test]
fn r70_the_oldest_of_too_many_drains_is_told_as_killed_by_the_limit() {
    let scene = Scene::new();
    scene.app("trap '' TERM; say up; up; while :; do sleep 0.05; done");
    let master = scene.master("-n 1 --ready fd=9 --max-draining 1").start();
    let oldest = scene.report("up").pid;
    master.ctl("reload --timeout 30s").succeeded();
    scene.report("up");
    master.ctl("reload --timeout 30s").succeeded();
    let status = master.until("the oldest is gone", |status| {
        let retiring = status["retiring"].as_array();
        retiring.is_some_and(|all| all.len() == 1 && all[0]["pid"] != oldest)
    });
    assert_eq!(status["counters"]["exits"]["killed-limit"], 1, "{status:#}");
    assert!(master.log().contains("was killed: too many were draining"));
}
