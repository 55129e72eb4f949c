use super::*;

#[test]
fn what_was_counted_since_and_elsewhere() {
    let mut before = Counters {
        spawned: 3,
        requests: u64::MAX,
        ..Counters::default()
    };
    before.exits.add(Cause::Exited, 2);
    let mut after = Counters {
        spawned: 5,
        ..before
    };
    after.exits.add(Cause::Exited, 1);
    after.exits.add(Cause::Stopped, 4);
    let new = after.since(&before);
    assert_eq!((new.spawned, new.requests, new.died), (2, 0, 0));
    assert_eq!(new.exits.of(Cause::Exited), 1);
    assert_eq!(new.exits.of(Cause::Stopped), 4);
    assert_eq!(before.and(&new), after);
    assert_eq!(before.at_least(&after), after);
}

#[test]
fn a_worker_that_counts_down_tells_of_nothing_new() {
    let told = |requests, connections| Work {
        requests,
        connections,
        ..Work::default()
    };
    assert_eq!(told(1, 9).since(&told(5, 5)), told(0, 4));
    assert_eq!(told(1, 9).at_least(&told(5, 5)), told(5, 9));
}
