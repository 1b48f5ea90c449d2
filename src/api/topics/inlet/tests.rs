//! What the queue of a subscription gives, in which order, and what it keeps.

use super::*;

fn put(state: &mut State, backlog: Backlog, numbers: std::ops::Range<u8>) {
    for number in numbers {
        state.put(Payload::from_bytes(vec![number]), Codec::Binary, backlog);
    }
}

/// What is read until there is nothing; 0 for the news of a restart.
fn read(state: &mut State, backlog: Backlog) -> Vec<u8> {
    std::iter::from_fn(|| match state.take(backlog) {
        Taken::Came(came, _) => Some(came.payload.into_bytes()[0]),
        Taken::Anew => Some(0),
        Taken::Lost(_) | Taken::Nothing | Taken::End(..) => None,
    })
    .collect()
}

/// Red when what comes after a restart pushes out what was left, and keeps its places.
#[test]
fn p_30_the_newest_are_kept_beside_what_was_left_before_a_restart() {
    let backlog = Backlog::drop_oldest(2);
    let mut state = State::default();
    put(&mut state, backlog, 1..5);
    state.begin_anew(backlog);
    put(&mut state, backlog, 10..20);
    assert_eq!(read(&mut state, backlog), [3, 4, 0, 18, 19]);
    put(&mut state, backlog, 20..30);
    assert_eq!(read(&mut state, backlog), [28, 29]);
}

/// Red when a report that was made before a restart, and comes to be sent after it, goes to the new start.
#[test]
fn p_30_what_was_taken_before_a_restart_is_not_reported_after_it() {
    let backlog = Backlog::drop_newest(1);
    let mut state = State::default();
    put(&mut state, backlog, 0..1);
    let Taken::Came(_, Some(total)) = state.take(backlog) else { panic!("it is due") };
    state.begin_anew(backlog);
    assert!(!state.owe(total));
    assert_eq!(state.owed, None);
    put(&mut state, backlog, 0..1);
    state.told = state.generation;
    let Taken::Came(_, Some(total)) = state.take(backlog) else { panic!("it is due") };
    assert!(state.owe(total));
    assert_eq!(state.owed, Some(1));
}

#[test]
fn p_30_many_restarts_leave_no_more_than_fits() {
    let backlog = Backlog::drop_newest(3);
    let mut state = State::default();
    for start in 1..50 {
        put(&mut state, backlog, start..start + 2);
        state.begin_anew(backlog);
    }
    assert!(state.queue.len() <= 3);
    state.agreed = state.generation;
    assert_eq!(read(&mut state, backlog), [0, 49, 0, 49, 50, 0]);
}

/// Red when they are told before the restart, and again by the number of what comes behind them.
#[test]
fn p_30_what_is_lost_of_a_new_start_is_told_behind_the_news_of_it() {
    let backlog = Backlog::drop_newest(3);
    let mut state = State::default();
    state.begin_anew(backlog);
    state.lose();
    assert!(!state.has_news());
    assert!(matches!(state.take(backlog), Taken::Nothing));
    state.agreed = state.generation;
    assert!(matches!(state.take(backlog), Taken::Anew));
    assert!(state.has_news());
    assert!(matches!(state.take(backlog), Taken::Lost(1)));
    assert!(!state.has_news());
}
