//! Notifications of the master to the service manager above it: systemd's protocol, sd_notify(3).
//!
//! [`crate::model::machines::service_manager`] decides what is sent. The direction from a worker to
//! the master is [`super::notify`].

use crate::model::machines::service_manager::ServiceNotice;

/// Renders the text of one datagram.
pub fn render(message: &[ServiceNotice]) -> String {
    let lines: Vec<String> = message.iter().map(line).collect();
    lines.join("\n")
}

fn line(notice: &ServiceNotice) -> String {
    match notice {
        ServiceNotice::MainPid(pid) => format!("MAINPID={pid}"),
        ServiceNotice::Ready => "READY=1".to_owned(),
        // With `Type=notify-reload` the manager asks for a reload by a signal, and compares this
        // time with the time of its signal to know whether this reload is the answer.
        ServiceNotice::Reloading(at) => format!("RELOADING=1\nMONOTONIC_USEC={}", at.0 / 1000),
        ServiceNotice::Stopping => "STOPPING=1".to_owned(),
        ServiceNotice::Watchdog => "WATCHDOG=1".to_owned(),
        ServiceNotice::Status(text) => format!("STATUS={}", text.replace(char::is_control, " ")),
    }
}

/// The manager's watchdog limit in microseconds for the process `pid`, from the values of
/// `WATCHDOG_USEC` and `WATCHDOG_PID` (sd_watchdog_enabled(3)). None: there is no limit, or it is
/// for another process, or the values are malformed.
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
    // systemd writes "never" as all ones (`USEC_INFINITY`).
    digits(usec?).filter(|usec| !matches!(*usec, 0 | u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Time;

    #[test]
    fn each_notice_is_a_line() {
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
    fn watchdog_limit_is_for_our_pid_only() {
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
