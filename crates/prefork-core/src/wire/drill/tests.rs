//! The document of a drill.

use super::*;

fn step(result: &str, lost: Lost, excused: u64) -> Step {
    Step {
        label: "reload".into(),
        result: result.into(),
        answers: 10,
        lost,
        excused,
        ..Step::default()
    }
}

fn concluded(steps: Vec<Step>) -> (bool, String) {
    let mut drill = Drill {
        steps,
        ..Drill::default()
    };
    drill.conclude();
    (drill.ok, drill.verdict)
}

#[test]
fn only_losses_and_failed_steps_are_not_well() {
    let none = Lost::default();
    let some = Lost {
        reset: 2,
        slow: 1,
        ..none
    };
    for (steps, ok, verdict) in [
        (vec![step("done", none, 0)], true, "0 of 10 requests lost"),
        (
            vec![step("done", none, 0), step("done", none, 3)],
            true,
            "0 of 23 requests lost, besides 3 that the killed worker had accepted",
        ),
        (
            vec![step("done", some, 0)],
            false,
            "3 of 13 requests lost: 2 reset, 1 slow",
        ),
        (
            vec![step("failed", none, 0)],
            false,
            "0 of 10 requests lost; reload failed",
        ),
    ] {
        assert_eq!(concluded(steps), (ok, verdict.to_owned()));
    }
}

#[test]
fn the_document_comes_back() {
    let drill = Drill {
        steps: vec![step("done", Lost::default(), 1)],
        ..Drill::default()
    };
    let text = serde_json::to_string(&drill).expect("written");
    assert_eq!(serde_json::from_str::<Drill>(&text).expect("read"), drill);
    assert!(text.contains("\"p99_s\":null"), "{text}");
}
