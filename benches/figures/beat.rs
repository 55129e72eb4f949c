//! What a heartbeat costs the worker that beats: its time, and the system calls that it makes.

use std::fs::{File, Permissions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use prefork::Heartbeat;
use prefork::sys::heartbeat::file::HeartbeatFile;
use prefork::sys::machine::clock;

use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const ROUNDS: usize = 15;

/// How many beats are counted together.
const COUNTED: u32 = 1000;

/// A way to beat: its name, its argument, the beats of a round, and what a round does.
struct Way {
    name: &'static str,
    word: &'static str,
    beats: u32,
    play: fn(&HeartbeatFile, u32) -> Outcome,
}

const WAYS: [Way; 4] = [
    Way {
        name: "nothing: the loop alone",
        word: "nothing",
        beats: 1_000_000,
        play: nothing,
    },
    Way {
        name: "a beat through the mapped page",
        word: "page",
        beats: 1_000_000,
        play: page,
    },
    Way {
        name: "a request counted there: begun, finished, and a beat at each",
        word: "request",
        beats: 1_000_000,
        play: request,
    },
    Way {
        name: "fchmod, as Unicorn's workers did it",
        word: "fchmod",
        beats: 20_000,
        play: fchmod,
    },
];

fn nothing(_: &HeartbeatFile, beats: u32) -> Outcome {
    for beat in 0..beats {
        black_box(beat);
    }
    Ok(())
}

fn page(beat: &HeartbeatFile, beats: u32) -> Outcome {
    let heartbeat = Heartbeat::of(beat.fd())?;
    for _ in 0..beats {
        black_box(&heartbeat).beat();
    }
    Ok(())
}

fn request(beat: &HeartbeatFile, beats: u32) -> Outcome {
    let heartbeat = Heartbeat::of(beat.fd())?;
    for _ in 0..beats {
        drop(black_box(&heartbeat).request());
    }
    Ok(())
}

fn fchmod(beat: &HeartbeatFile, beats: u32) -> Outcome {
    let file = File::from(beat.fd().try_clone_to_owned()?);
    for beat in 0..beats {
        let mode = if beat % 2 == 0 { 0o400 } else { 0o600 };
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

pub fn measure(_: &Bench, report: &mut Report) -> Outcome {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..ROUNDS {
        for (way, times) in WAYS.iter().zip(&mut times) {
            let beat = HeartbeatFile::create()?;
            let began = clock::now();
            (way.play)(&beat, way.beats)?;
            let took = clock::now().since(began);
            times.push(took.as_secs_f64() * 1e9 / f64::from(way.beats));
        }
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|times| Sample::from_iter(times).median())
        .collect();
    let calls = WAYS.map(|way| calls(way.word).unwrap_or(f64::NAN));
    let rows: Vec<Vec<String>> = WAYS
        .iter()
        .zip(&medians)
        .zip(calls)
        .map(|((way, median), calls)| vec![way.name.to_owned(), number(*median), number(calls)])
        .collect();
    report.table(
        &format!("A heartbeat, by the worker; medians of {ROUNDS}"),
        &cells(["how", "ns", "system calls"]),
        &rows,
    );
    let [_, page, _, fchmod] = medians[..] else {
        return Err("not every way was measured".into());
    };
    report.goal(
        "a heartbeat through the mapped page",
        format!(
            "{} ns, {} x fchmod, {} system calls",
            number(page),
            number(page / fchmod),
            number(calls[1])
        ),
        "one atomic store, no system call",
        calls[1] == 0.0,
    );
    Ok(())
}

/// The system calls of a beat: those of a process with many beats, less those of one with none.
fn calls(word: &str) -> Outcome<f64> {
    let (with, without) = (all_calls(word, COUNTED)?, all_calls(word, 0)?);
    Ok(f64::from(with.saturating_sub(without)) / f64::from(COUNTED))
}

/// The system calls that this program makes in the role [`play`], from the start signal on.
fn all_calls(word: &str, beats: u32) -> Outcome<u32> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["beats", word, &beats.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let counted = traced(&mut child);
    if counted.is_err() {
        let _ = child.kill();
    }
    // Reaped by the trace, where that went well.
    let _ = child.wait();
    counted
}

fn traced(child: &mut std::process::Child) -> Outcome<u32> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let (mut begin, mut ready) = (
        child.stdin.take().ok_or("no stdin")?,
        child.stdout.take().ok_or("no stdout")?,
    );
    ready.read_exact(&mut [0])?;
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD)?;
    ptrace::interrupt(pid)?;
    waitpid(pid, None)?;
    begin.write_all(b"\n")?;
    let mut stops = 0;
    loop {
        ptrace::syscall(pid, None)?;
        match waitpid(pid, None)? {
            // Once at the start, and once at the end.
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::Exited(_, 0) => return Ok(stops / 2),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err("it failed".into()),
            _ => {}
        }
    }
}

/// The role of the counted process: `WORD BEATS`.
pub fn play(words: &[String]) -> Outcome {
    let [word, beats] = words else {
        return Err("beats WORD BEATS".into());
    };
    let way = WAYS.into_iter().find(|way| way.word == word);
    let (way, beat) = (way.ok_or("no such way")?, HeartbeatFile::create()?);
    let mut stdout = std::io::stdout();
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    std::io::stdin().read_exact(&mut [0])?;
    (way.play)(&beat, beats.parse()?)
}
