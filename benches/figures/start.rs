//! The start of a service, from the exec of its manager until the last worker is ready.

use super::managers::Manager;
use super::run::Look;
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

/// How many workers, and how many runs of each.
const SIZES: [(usize, u32); 4] = [(1, 9), (8, 9), (64, 7), (256, 7)];

/// The slow ones need not be measured to the last percent.
const RUNS_OF_SLOW: u32 = 2;

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let mut columns = cells(["workers"]);
    columns.extend(
        bench
            .managers
            .iter()
            .map(|manager| manager.name().to_owned()),
    );
    columns.push("pf-master / multiwatch".to_owned());
    let mut rows = Vec::new();
    for (workers, runs) in SIZES {
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); bench.managers.len()];
        for run in 0..runs {
            // Side by side, so that what else the machine does meets all of them.
            for (manager, times) in bench.managers.iter().zip(&mut times) {
                let slow = matches!(
                    manager,
                    Manager::Unicorn | Manager::Gunicorn | Manager::StartServer | Manager::S6
                );
                if manager.manages(workers) && (!slow || run < RUNS_OF_SLOW) {
                    times.push(once(bench, *manager, workers)?);
                }
            }
        }
        let medians: Vec<f64> = times
            .into_iter()
            .map(|times| Sample::from_iter(times).median())
            .collect();
        let of = |wanted| {
            let found = bench.managers.iter().position(|manager| *manager == wanted);
            found
                .and_then(|at| medians.get(at))
                .copied()
                .unwrap_or(f64::NAN)
        };
        let ratio = of(Manager::Ours) / of(Manager::Multiwatch);
        let mut row = vec![workers.to_string()];
        row.extend(medians.iter().copied().map(number));
        row.push(number(ratio));
        rows.push(row);
        if workers == 256 && !ratio.is_nan() {
            report.goal(
                "start of 256 workers until all are ready",
                format!(
                    "{} ms, {} x multiwatch",
                    number(of(Manager::Ours)),
                    number(ratio)
                ),
                "1.1 x multiwatch",
                ratio <= 1.1,
            );
        }
    }
    report.table("Start until the last worker is ready, ms", &columns, &rows);
    Ok(())
}

fn once(bench: &Bench, manager: Manager, workers: usize) -> Outcome<f64> {
    let mut service = manager.start(&bench.stage, workers, &[])?;
    service.run.await_workers(workers, Look::Rarely)?;
    Ok(service.run.took())
}
