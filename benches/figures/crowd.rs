//! A status request while 500 clients are connected, most of which misbehave.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prefork::sys::machine::clock;

use super::managers::Manager;
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const WORKERS: usize = 8;
/// Clients that send nothing more once they have their first answer.
const QUIET: usize = 48;
/// Clients of each kind of misbehaviour.
const OF_EACH_KIND: usize = 90;
const ROUNDS: usize = 1000;
/// Between two rounds of the crowd. Without it the crowd would take a processor for itself, and
/// with two of them that would be measured.
const PACE: Duration = Duration::from_millis(1);

/// How a client misbehaves.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Sends requests as long as there is room, and never reads an answer.
    Stalls,
    /// Sends lines that are no requests, and reads what comes.
    Floods,
    /// Sends requests ahead of the answers, and reads what comes.
    Pipelines,
    /// Sends half a line, and nothing after it.
    HalfLine,
    /// Sends a request, leaves before the answer, and comes again.
    Leaves,
}

const KINDS: [Kind; 5] = [
    Kind::Stalls,
    Kind::Floods,
    Kind::Pipelines,
    Kind::HalfLine,
    Kind::Leaves,
];

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let pid_file = bench.stage.dir().join("crowd.pid");
    let pid_word = pid_file.to_string_lossy();
    let mut service = Manager::Ours.start(&bench.stage, WORKERS, &["--pid", &pid_word])?;
    service.run.await_workers(WORKERS, Look::Rarely)?;
    let socket = pid_file.with_extension("ctl");
    let alone = both(&socket)?;
    let quiet = (0..QUIET).map(|_| quiet(&socket));
    let quiet = quiet.collect::<Outcome<Vec<UnixStream>>>()?;
    let (is_over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (beside, sent) = std::thread::scope(|scope| -> Outcome<_> {
        let crowd = scope.spawn(|| misbehave(&socket, &is_over, &connected));
        let wanted = KINDS.len() * OF_EACH_KIND;
        while connected.load(Ordering::Relaxed) < wanted && !crowd.is_finished() {
            clock::pause(PACE);
        }
        let beside = both(&socket);
        is_over.store(true, Ordering::Relaxed);
        let ended = crowd.join().map_err(|_| "the crowd panicked")?;
        let sent = ended.map_err(|error| format!("the crowd: {error}"))?;
        Ok((beside?, sent))
    })?;
    drop(quiet);
    told(report, &alone, &beside);
    report.note(&format!(
        "Meanwhile the {} clients wrote {sent} times: a part of a line, a line or several.",
        KINDS.len() * OF_EACH_KIND
    ));
    Ok(())
}

fn told(report: &mut Report, alone: &[Sample; 2], beside: &[Sample; 2]) {
    let row = |name: &str, sample: &Sample| {
        let shares = [0.0, 0.5, 0.9, 1.0].map(|share| number(sample.quantile(share)));
        let mut row = vec![name.to_owned()];
        row.extend(shares);
        row
    };
    let rows = [
        row("a status, alone", &alone[0]),
        row("a status, beside them", &beside[0]),
        row("a wait that is refused, alone", &alone[1]),
        row("a wait that is refused, beside them", &beside[1]),
    ];
    let clients = KINDS.len() * OF_EACH_KIND;
    let title = format!(
        "A client that waits for each answer, beside {clients} clients that misbehave and {} \
         others, ms ({ROUNDS} requests each)",
        QUIET + 2
    );
    let columns = cells(["what", "min", "median", "p90", "max"]);
    report.table(&title, &columns, &rows);
    let (median, pause) = (beside[0].median(), beside[1].max());
    report.goal(
        "a status beside 450 clients that misbehave",
        format!(
            "{} ms; the longest wait for any answer {} ms",
            number(median),
            number(pause.max(beside[0].max()))
        ),
        "5 ms; 100 ms",
        median <= 5.0 && pause.max(beside[0].max()) <= 100.0,
    );
}

/// The times of two clients that take turns: one asks for the status, the other for what the master
/// refuses at once, so that its time is that of the loop.
fn both(socket: &Path) -> Outcome<[Sample; 2]> {
    let mut clients = [
        Probe::connect(socket, "{\"cmd\":\"status\"}\n")?,
        Probe::connect(socket, "{\"cmd\":\"wait\",\"op\":\"none\"}\n")?,
    ];
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.ask()?;
        }
    }
    Ok(clients.map(|client| Sample::from_iter(client.times)))
}

/// A client that waits for each answer.
struct Probe {
    answers: BufReader<UnixStream>,
    request: &'static str,
    times: Vec<f64>,
}

impl Probe {
    fn connect(socket: &Path, request: &'static str) -> Outcome<Self> {
        Ok(Probe {
            answers: BufReader::new(UnixStream::connect(socket)?),
            request,
            times: Vec::new(),
        })
    }

    fn ask(&mut self) -> Outcome {
        let began = clock::now();
        self.answers.get_mut().write_all(self.request.as_bytes())?;
        let mut answer = Vec::new();
        self.answers.read_until(b'\n', &mut answer)?;
        self.times.push(millis(clock::now().since(began)));
        if answer.ends_with(b"\n") {
            Ok(())
        } else {
            Err("the master has closed the connection of a client that behaves".into())
        }
    }
}

fn quiet(socket: &Path) -> Outcome<UnixStream> {
    let mut client = Probe::connect(socket, "{\"cmd\":\"listeners\"}\n")?;
    client.ask()?;
    Ok(client.answers.into_inner())
}

/// One client of the crowd.
struct Client {
    kind: Kind,
    connection: UnixStream,
    /// What of its text has been sent.
    sent: usize,
    /// How often something was sent.
    times: usize,
}

impl Client {
    fn connect(socket: &Path, kind: Kind) -> std::io::Result<Self> {
        let connection = UnixStream::connect(socket)?;
        connection.set_nonblocking(true)?;
        Ok(Client {
            kind,
            connection,
            sent: 0,
            times: 0,
        })
    }

    fn text(&self) -> &'static [u8] {
        match self.kind {
            Kind::Stalls | Kind::Pipelines | Kind::Leaves => b"{\"cmd\":\"status\"}\n",
            Kind::Floods => b"neither JSON nor a request, but a line\n",
            Kind::HalfLine => b"{\"cmd\":\"sta",
        }
    }

    /// Sends and reads what it can at once. Returns whether it stays.
    fn act(&mut self) -> bool {
        let is_once = matches!(self.kind, Kind::HalfLine | Kind::Leaves);
        // A few lines at a time: 450 clients share one thread with their turns.
        for _ in 0..4 {
            let text = self.text();
            let rest = text.get(self.sent..).unwrap_or_default();
            if is_once && rest.is_empty() {
                break;
            }
            match (&self.connection).write(rest) {
                Ok(count) => {
                    self.sent += count;
                    self.times += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
            if self.sent == text.len() && !is_once {
                self.sent = 0;
            }
        }
        match self.kind {
            Kind::Stalls => true,
            Kind::Leaves => false,
            Kind::Floods | Kind::Pipelines | Kind::HalfLine => self.read(),
        }
    }

    fn read(&mut self) -> bool {
        let mut answers = [0; 1 << 14];
        match (&self.connection).read(&mut answers) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// The crowd: a client that the master has dropped, or that has left, comes again. Returns how
/// often its clients have sent something.
fn misbehave(
    socket: &Path,
    is_over: &AtomicBool,
    connected: &AtomicUsize,
) -> std::io::Result<usize> {
    let mut clients = Vec::new();
    for _ in 0..OF_EACH_KIND {
        for kind in KINDS {
            clients.push(Client::connect(socket, kind)?);
            connected.store(clients.len(), Ordering::Relaxed);
        }
    }
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        for client in &mut clients {
            if !client.act() {
                sent += client.times;
                *client = Client::connect(socket, client.kind)?;
            }
        }
        clock::pause(PACE);
    }
    Ok(sent + clients.iter().map(|client| client.times).sum::<usize>())
}
