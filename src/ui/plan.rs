//! What a rollout would change, as text.

use std::fmt::Display;

use super::text::{command, plain};
use crate::wire::control::{Change, Plan};

/// The plan as text, one fact for each line. A value that stays is marked as unchanged; a command
/// line that stays is left out.
pub fn text(plan: &Plan) -> String {
    let mut lines = Vec::new();
    if let Some(master) = &plan.master {
        lines.extend([
            ("master", change(&master.program)),
            ("its inode", change(&master.inode)),
            ("executed", command(&master.command)),
        ]);
    }
    if plan.command.from != plan.command.to {
        let side = |side: &Option<Vec<String>>| side.as_deref().map(command);
        let commands = Change {
            from: side(&plan.command.from),
            to: side(&plan.command.to),
        };
        lines.push(("command", change(&commands)));
    }
    lines.extend([
        ("program", change(&plan.program)),
        ("inode", change(&plan.inode)),
        ("cwd", change(&plan.cwd)),
    ]);
    for (label, differences) in [
        ("environment", &plan.environment),
        ("listeners", &plan.listeners),
    ] {
        if differences.is_empty() {
            lines.push((label, "unchanged".to_owned()));
        }
        for (index, difference) in differences.iter().enumerate() {
            lines.push((if index == 0 { label } else { "" }, plain(difference)));
        }
    }
    lines.push(("peak workers", plan.peak_workers.to_string()));
    lines
        .into_iter()
        .map(|(label, value)| format!("{label:<13}{value}\n"))
        .collect()
}

fn change<T: Display + PartialEq>(change: &Change<T>) -> String {
    let show = |value: &Option<T>| {
        value
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), |value| plain(&value.to_string()))
    };
    if change.from == change.to {
        return format!("{} (unchanged)", show(&change.to));
    }
    format!("{} -> {}", show(&change.from), show(&change.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::MasterPlan;

    #[test]
    fn the_plan_of_an_upgrade_has_the_master_and_the_new_command() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let plan = Plan {
            master: Some(MasterPlan {
                program: Change {
                    from: Some("/opt/1/pf-master".into()),
                    to: Some("/opt/2/pf-master".into()),
                },
                inode: Change {
                    from: Some(3),
                    to: Some(4),
                },
                command: vec!["pf-master".into(), "-n".into(), "1 2".into()],
            }),
            command: Change {
                from: Some(words("./app --old")),
                to: Some(words("./app --new")),
            },
            ..Plan::default()
        };
        let text = text(&plan);
        let expected = "master       /opt/1/pf-master -> /opt/2/pf-master\n\
                        its inode    3 -> 4\n\
                        executed     pf-master -n '1 2'\n\
                        command      ./app --old -> ./app --new\n\
                        program      ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn each_fact_has_a_line() {
        let plan = Plan {
            master: None,
            command: Change::default(),
            program: Change {
                from: Some("/srv/1/app".into()),
                to: Some("/srv/2/app".into()),
            },
            inode: Change {
                from: Some(7),
                to: None,
            },
            cwd: Change {
                from: Some("/srv".into()),
                to: Some("/srv".into()),
            },
            environment: vec!["+A=1\n2".into(), "-B=2".into()],
            listeners: vec![],
            peak_workers: 5,
        };
        assert_eq!(
            text(&plan),
            "program      /srv/1/app -> /srv/2/app\n\
             inode        7 -> unknown\n\
             cwd          /srv (unchanged)\n\
             environment  +A=1\\n2\n\
             \x20            -B=2\n\
             listeners    unchanged\n\
             peak workers 5\n"
        );
    }
}
