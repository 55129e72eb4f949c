//! A line for each of several services.

use std::borrow::Cow;

use super::columns::Fitted;
use super::lines::{Line, cut};
use super::text::{duration, plain};
use crate::wire::status::Status;

const HEADER: [&str; 6] = ["NAME", "STATE", "GEN", "RELEASE", "READY", "UP"];

/// One service.
#[derive(Debug)]
pub struct Service<'a> {
    /// How the user calls it.
    pub name: String,
    /// Whether it is in the state that was asked for.
    pub is_well: bool,
    /// Its document, or in words why there is none.
    pub status: Result<Cow<'a, Status>, String>,
}

/// A line for each service below a header: name, state, generation, release (its `PF_RELEASE`, else
/// its directory), how many of its slots are ready, and how long its master has run. No line is
/// wider than `width`.
pub fn lines(services: &[Service<'_>], width: Option<usize>) -> Vec<Line> {
    let table = Fitted {
        header: &HEADER,
        left: &[0, 1, 3],
        path: Some(3),
        width,
    };
    let texts = table.lines(services.iter().map(row).collect());
    let marks = services.iter().map(|service| service.is_well);
    let marked = texts.into_iter().zip([true].into_iter().chain(marks));
    cut(
        marked.map(|(text, mark)| Line::new(text, mark)).collect(),
        width,
    )
}

fn row(service: &Service<'_>) -> Vec<String> {
    let unknown = || "-".to_owned();
    let name = plain(&service.name);
    match &service.status {
        Ok(status) => vec![
            name,
            plain(&status.state),
            status.generation.to_string(),
            release(status).map_or_else(unknown, plain),
            format!("{}/{}", status.workers.ready, status.workers.wanted),
            status.uptime_s.map_or_else(unknown, duration),
        ],
        Err(why) => vec![name, plain(why), unknown(), unknown(), unknown(), unknown()],
    }
}

/// What tells this release from others: its `PF_RELEASE`, else its directory.
pub(super) fn release(status: &Status) -> Option<&str> {
    status.release.as_deref().or(status.cwd.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::Workers;

    fn services() -> [Service<'static>; 3] {
        let running = Status {
            state: "running".into(),
            generation: 12,
            cwd: Some("/srv/shop/releases/7".into()),
            uptime_s: Some(61.0),
            workers: Workers {
                wanted: 4,
                ready: 4,
                ..Workers::default()
            },
            ..Status::default()
        };
        let rolling = Status {
            state: "rolling".into(),
            release: Some("v2".into()),
            generation: 3,
            ..running.clone()
        };
        [
            Service {
                name: "shop".into(),
                is_well: true,
                status: Ok(Cow::Owned(running)),
            },
            Service {
                name: "mail".into(),
                is_well: false,
                status: Ok(Cow::Owned(rolling)),
            },
            Service {
                name: "web".into(),
                is_well: false,
                status: Err("not running".into()),
            },
        ]
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn each_service_has_a_line() {
        let lines = lines(&services(), None);
        assert_eq!(
            texts(&lines),
            [
                "NAME  STATE        GEN  RELEASE               READY     UP",
                "shop  running       12  /srv/shop/releases/7    4/4  1m 1s",
                "mail  rolling        3  v2                      4/4  1m 1s",
                "web   not running    -  -                         -      -",
            ]
        );
        let well: Vec<bool> = lines.iter().map(|line| line.is_well).collect();
        assert_eq!(well, [true, true, false, false]);
    }

    #[test]
    fn a_directory_is_cut_where_the_line_would_be_too_wide() {
        let lines = lines(&services(), Some(52));
        assert_eq!(
            lines[1].text,
            "shop running      12 …/shop/releases/7   4/4 1m 1s"
        );
    }
}
