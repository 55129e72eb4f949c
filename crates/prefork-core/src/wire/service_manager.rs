//! What the master says to a service manager, in systemd's protocol (sd_notify(3)): the other direction of [`notify`](super::notify).

use crate::model::service_manager::ServiceNotice;

/// The text of one datagram.
pub fn render(message: &[ServiceNotice]) -> String {
    let lines: Vec<String> = message.iter().map(line).collect();
    lines.join("\n")
}

fn line(notice: &ServiceNotice) -> String {
    match notice {
        ServiceNotice::MainPid(pid) => format!("MAINPID={pid}"),
        ServiceNotice::Ready => "READY=1".to_owned(),
        // A manager that asked for the reload by a signal tells by the time whether this one is the answer.
        ServiceNotice::Reloading(at) => format!("RELOADING=1\nMONOTONIC_USEC={}", at.0 / 1000),
        ServiceNotice::Stopping => "STOPPING=1".to_owned(),
        ServiceNotice::Watchdog => "WATCHDOG=1".to_owned(),
        ServiceNotice::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
    }
}

/// How long the manager bears silence, in microseconds, from the values of `WATCHDOG_USEC` and `WATCHDOG_PID`; None: it does not listen for life, or not
/// for that of the process `pid`, or the values make no sense.
pub fn watchdog_usec(usec: Option<&str>, of: Option<&str>, pid: u32) -> Option<u64> {
    let digits = |text: &str| -> Option<u64> {
        let all = text.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| text.parse().ok()).flatten()
    };
    if let Some(of) = of
        && digits(of) != Some(u64::from(pid))
    {
        return None;
    }
    // All ones is how systemd writes never.
    digits(usec?).filter(|usec| !matches!(*usec, 0 | u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Time;

    #[test]
    fn a_message_is_one_line_a_word() {
        let message = [
            ServiceNotice::MainPid(42),
            ServiceNotice::Reloading(Time(1_234_567_890)),
            ServiceNotice::Status("a\nb".into()),
            ServiceNotice::Watchdog,
        ];
        assert_eq!(
            render(&message),
            "MAINPID=42\nRELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=a b\nWATCHDOG=1"
        );
        assert_eq!(
            render(&[ServiceNotice::Stopping, ServiceNotice::Ready]),
            "STOPPING=1\nREADY=1"
        );
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        assert_eq!(watchdog_usec(Some("3000000"), None, 7), Some(3_000_000));
        assert_eq!(
            watchdog_usec(Some("3000000"), Some("7"), 7),
            Some(3_000_000)
        );
        for (usec, of) in [
            (Some("3000000"), Some("8")),
            (Some("3000000"), Some("")),
            (None, Some("7")),
            (Some("0"), None),
            (Some("-1"), None),
            (Some(""), None),
            (Some("18446744073709551615"), None),
            (Some("99999999999999999999"), None),
        ] {
            assert_eq!(watchdog_usec(usec, of, 7), None, "{usec:?} {of:?}");
        }
    }
}
