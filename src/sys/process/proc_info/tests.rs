use super::*;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A `cat` in a group of its own, which lives until its input is closed; killed and reaped on drop.
struct Cat {
    child: Child,
    input: Option<ChildStdin>,
}

impl Cat {
    fn start() -> Cat {
        let mut child = Command::new("cat")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let mut input = child.stdin.take().expect("piped");
        // One byte there and back: cat has been executed.
        input.write_all(b"x").expect("written");
        child
            .stdout
            .as_mut()
            .expect("piped")
            .read_exact(&mut [0])
            .expect("echoed");
        Cat {
            child,
            input: Some(input),
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Ends it without reaping it, and returns once it is a zombie.
    fn become_zombie(&mut self) {
        self.input = None;
        let id = nix::sys::wait::Id::Pid(Pid::from_raw(self.pid()));
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(id, flags).expect("waited");
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn myself() -> i32 {
    Pid::this().as_raw()
}

#[test]
fn usage_of_a_group_is_the_sum_of_its_members() {
    let leader = Cat::start();
    let member = Command::new("cat")
        .process_group(leader.pid())
        .stdin(Stdio::piped())
        .spawn();
    let mut member = member.expect("cat");
    let other = Cat::start();
    let pid = i32::try_from(member.id()).expect("a pid");
    let mut groups = groups_usage(&[leader.pid(), other.pid(), myself() + (1 << 22)]);
    let both = groups.remove(&leader.pid()).expect("it lives");
    let each = [usage(leader.pid()), usage(pid)].map(|it| it.expect("it lives").rss_bytes);
    assert!(
        both.rss_bytes > each[0].max(each[1]),
        "{both:?} of {each:?}"
    );
    assert_eq!(groups.len(), 1, "a group that does not exist has no usage");
    let _ = member.kill();
    let _ = member.wait();
}

#[test]
fn usage_of_this_process_is_plausible() {
    let ours = usage(myself()).expect("we live");
    assert!((64 * 1024..1 << 40).contains(&ours.rss_bytes), "{ours:?}");
    assert!(
        ours.cpu > Duration::ZERO && ours.cpu < Duration::from_secs(3600),
        "{ours:?}"
    );
}

#[test]
fn a_process_that_is_gone_has_no_usage() {
    let mut cat = Cat::start();
    let pid = cat.pid();
    assert!(usage(pid).is_some());
    cat.become_zombie();
    assert_eq!(state(pid), Some('Z'));
    assert_eq!(usage(pid).map(|usage| usage.rss_bytes), Some(0));
    cat.child.wait().expect("reaped");
    assert_eq!(usage(pid), None);
    assert_eq!(state(pid), None);
    assert_eq!(tracer(pid), None);
    assert_eq!(catches(pid, 15), None);
    assert!(!holds_socket(&[pid], &BTreeSet::from([1])).expect("gone is no error"));
    for invalid in [0, -1, i32::MIN, i32::MAX] {
        assert_eq!(usage(invalid), None);
        assert_eq!(state(invalid), None);
    }
}

#[test]
fn a_group_is_told_without_its_zombies() {
    let (mut first, second) = (Cat::start(), Cat::start());
    let groups = [first.pid(), second.pid()];
    assert_eq!(group_members(first.pid()), [first.pid()]);
    first.become_zombie();
    let members = groups_members(&groups);
    assert_eq!(members.get(&first.pid()), Some(&vec![]));
    assert_eq!(members.get(&second.pid()), Some(&vec![second.pid()]));
    assert!(group_members(i32::MAX).is_empty());
}

#[test]
fn a_zombie_with_living_threads_is_alive() {
    let line = |state: char, threads: u32| {
        format!("7 (a ) Z b) {state} 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 {threads} 0 99")
    };
    let live = |line: String| is_live_stat(after_name(line.as_bytes()).expect("a name"));
    assert!(live(line('S', 1)));
    assert!(live(line('Z', 2)));
    assert!(!live(line('Z', 1)));
    assert!(!live(line('X', 0)));
}

#[test]
fn held_sockets_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let inode = socket_inode(listener.as_fd()).expect("an inode");
    let cat = Cat::start();
    let inodes = BTreeSet::from([inode]);
    assert!(holds_socket(&[cat.pid(), myself()], &inodes).expect("readable"));
    // Rust's sockets are close-on-exec.
    assert!(!holds_socket(&[cat.pid()], &inodes).expect("readable"));
    drop(listener);
    assert!(!holds_socket(&[myself()], &inodes).expect("readable"));
}

#[test]
fn link_targets_are_read_totally() {
    assert_eq!(linked_socket("socket:[4711]"), Some(4711));
    for other in [
        "",
        "socket:[",
        "socket:[]",
        "socket:[x]",
        "pipe:[7]",
        "/tmp/socket:[7]",
        "socket:[99999999999999999999]",
    ] {
        assert_eq!(linked_socket(other), None, "{other}");
    }
}

#[test]
fn u15_caught_signals_are_known() {
    let cat = Cat::start();
    assert_eq!(catches(cat.pid(), 10), Some(false));
    let mut shell = Command::new("sh")
        .args(["-c", "trap : USR1; echo; read _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh");
    shell
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut [0])
        .expect("the trap is set");
    let pid = i32::try_from(shell.id()).expect("a pid");
    assert_eq!(catches(pid, nix::libc::SIGUSR1), Some(true));
    assert_eq!(catches(pid, nix::libc::SIGUSR2), Some(false));
    for nonsense in [0, -1, 65, i32::MAX] {
        assert_eq!(catches(pid, nonsense), None);
    }
    drop(shell.stdin.take());
    shell.wait().expect("reaped");
}

#[test]
fn a_program_is_its_inode() {
    let dir = tempfile::tempdir().expect("a directory");
    let (program, link) = (dir.path().join("a"), dir.path().join("current"));
    fs::write(&program, "").expect("written");
    std::os::unix::fs::symlink("a", &link).expect("linked");
    assert!(program_inode(&program).is_some());
    assert_eq!(program_inode(&link), program_inode(&program));
    assert_eq!(program_inode(&dir.path().join("none")), None);
}

#[test]
fn a_signal_to_a_stopped_process_is_pending() {
    let cat = Cat::start();
    let pid = cat.pid();
    killpg(Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).expect("it lives");
    while state(pid) != Some('T') {
        std::thread::yield_now();
    }
    let (usr1, usr2) = (nix::libc::SIGUSR1, nix::libc::SIGUSR2);
    assert_eq!(is_pending(pid, usr1), Some(false));
    killpg(Pid::from_raw(pid), nix::sys::signal::Signal::SIGUSR1).expect("it lives");
    assert_eq!(
        (is_pending(pid, usr1), is_pending(pid, usr2)),
        (Some(true), Some(false))
    );
}
