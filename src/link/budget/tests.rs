//! What a peer may do for free, on virtual time.

use std::time::Duration;

use super::*;

/// How many payments in a row are taken at this time, up to a bound.
fn payments(budget: &mut Budget, now: Instant) -> u32 {
    (0..100_000).take_while(|_| budget.pay("them", now).is_ok()).count() as u32
}

#[test]
fn a_burst_is_taken_and_not_one_more() {
    let (mut budget, now) = (Budget::new(), Instant::now());
    assert_eq!(payments(&mut budget, now), BURST);
    assert_eq!(budget.pay("them", now), Err(ProtocolError::Flood("them")));
}

/// Red when what follows from something is counted as a flood, however often that is.
#[test]
fn what_was_paid_in_advance_costs_nothing_more() {
    let (mut budget, now) = (Budget::new(), Instant::now());
    for _ in 0..10 * BURST {
        budget.earn(2);
        (0..2).for_each(|_| budget.pay("them", now).unwrap());
    }
    assert_eq!(payments(&mut budget, now), BURST);
}

#[test]
fn what_was_paid_in_advance_is_not_kept_for_ever() {
    let (mut budget, now) = (Budget::new(), Instant::now());
    (0..3).for_each(|_| budget.earn(MOST_EARNED));
    (0..MOST_EARNED).for_each(|_| budget.pay("them", now).unwrap());
    assert_eq!(payments(&mut budget, now), BURST);
}

#[test]
fn time_fills_it_up_to_a_burst_and_no_further() {
    for (millis, grown) in [(0, 0), (1, A_SECOND / 1000), (500, A_SECOND / 2), (1_000_000, BURST)] {
        let (mut budget, now) = (Budget::new(), Instant::now());
        payments(&mut budget, now);
        assert_eq!(payments(&mut budget, now + Duration::from_millis(millis)), grown, "after {millis} ms");
    }
}

#[test]
fn an_even_pace_is_taken_for_ever() {
    let (mut budget, start) = (Budget::new(), Instant::now());
    let pace = Duration::from_secs(1) / A_SECOND;
    assert!((0..200_000).all(|n| budget.pay("them", start + pace * n).is_ok()));
}

#[test]
fn twice_the_pace_is_refused_in_the_end() {
    let (mut budget, start) = (Budget::new(), Instant::now());
    let pace = Duration::from_secs(1) / (2 * A_SECOND);
    let refused = (0..200_000).position(|n| budget.pay("them", start + pace * n).is_err());
    assert!(refused.is_some_and(|n| n >= BURST as usize), "{refused:?}");
}

#[test]
fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
    let (mut budget, now) = (Budget::new(), Instant::now() + Duration::from_secs(10));
    payments(&mut budget, now);
    assert_eq!(payments(&mut budget, now - Duration::from_secs(5)), 0);
}
