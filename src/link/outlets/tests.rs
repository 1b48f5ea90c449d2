//! In which order items go, and how many may wait.

use super::*;
use crate::wire::{Path, first_item};

const ALL: Quota = Quota { items: 1 << 20, bytes: 1 << 30 };

fn outlets(config: &Config) -> Outlets {
    Outlets::new(config)
}

fn open(outlets: &mut Outlets, id: u64, granted: Option<Quota>) -> Arc<Outlet> {
    let outlet = Outlet::new(&Path::new("x").expect("it is a path"));
    outlets.open(id, outlet.clone(), granted);
    outlet
}

/// An item of so many bytes.
fn item(size: usize) -> Vec<u8> {
    let mut item = (size as u32).to_le_bytes().to_vec();
    item.resize(4 + size, 7);
    item
}

fn put(outlets: &mut Outlets, id: u64, size: usize) {
    assert_eq!(outlets.room(id, 0), Room::Some);
    let bytes = item(size);
    let put = match HEADER_LEN + bytes.len() <= FRAME_LIMIT {
        true => outlets.put(id, size, Item::Small(&bytes)),
        false => {
            let mut load = vec![0; HEADER_LEN];
            load.extend(bytes);
            outlets.put(id, size, Item::Large(load.into()))
        }
    };
    assert!(put.is_some());
}

/// What goes next: whose it is, and how many items there are; 0 for an end.
fn next(outlets: &mut Outlets) -> Option<(u64, usize)> {
    let (draft, answer) = outlets.turn(true).then(|| outlets.next()).flatten()?;
    assert!(answer.is_none());
    Some((draft.id, n_items(draft)))
}

fn n_items(draft: Draft) -> usize {
    if draft.kind == Kind::StreamEnd {
        return 0;
    }
    let Ok(buffer) = draft.load.into_buffer() else { return 1 };
    let (mut rest, mut n) = (&buffer[HEADER_LEN..], 0);
    while !rest.is_empty() {
        rest = &rest[first_item(rest).expect("it is whole").end..];
        n += 1;
    }
    n
}

fn answer(id: u64) -> Draft {
    Draft::bare(Kind::Reply, id)
}

#[test]
fn items_that_wait_go_together_and_streams_take_turns() {
    let mut outlets = outlets(&Config::new());
    for id in 1..=3 {
        open(&mut outlets, id, Some(ALL));
        (0..10).for_each(|_| put(&mut outlets, id, 8000));
    }
    // Seven of them fit into a frame.
    let order: Vec<_> = std::iter::from_fn(|| next(&mut outlets)).collect();
    assert_eq!(order, [(1, 7), (2, 7), (3, 7), (1, 3), (2, 3), (3, 3)]);
    assert!(outlets.is_drained() && outlets.bytes == 0);
}

#[test]
fn a_stream_whose_item_is_cut_waits_for_the_rest_of_it() {
    let mut outlets = outlets(&Config::new());
    open(&mut outlets, 1, Some(ALL));
    open(&mut outlets, 2, Some(ALL));
    put(&mut outlets, 1, 100_000);
    put(&mut outlets, 1, 1);
    put(&mut outlets, 2, 100_000);
    put(&mut outlets, 2, 1);
    // One that must not begin to be cut makes way.
    assert!(!outlets.turn(false));
    assert_eq!(next(&mut outlets), Some((1, 1)));
    assert!(!outlets.turn(false));
    assert_eq!(next(&mut outlets), Some((2, 1)));
    assert!(!outlets.turn(true));
    assert!(outlets.has_left(2).is_none());
    assert_eq!(next(&mut outlets), Some((2, 1)));
    assert!(outlets.has_left(1).is_none());
    assert_eq!(next(&mut outlets), Some((1, 1)));
}

#[test]
fn as_many_go_as_are_granted() {
    let mut outlets = outlets(&Config::new());
    open(&mut outlets, 1, None);
    assert_eq!(outlets.room(1, 0), Room::None);
    let quota = |items, bytes| Quota { items, bytes };
    assert_eq!(outlets.grant(1, quota(2, 100)), Some(Ok(true)));
    assert_eq!(outlets.grant(1, quota(2, 100)), Some(Ok(false)));
    put(&mut outlets, 1, 10);
    put(&mut outlets, 1, 10);
    assert_eq!(outlets.room(1, 0), Room::None);
    // One may go over the bytes.
    assert_eq!(outlets.grant(1, quota(10, 100)), Some(Ok(true)));
    put(&mut outlets, 1, 79);
    put(&mut outlets, 1, 1000);
    assert_eq!(outlets.room(1, 0), Room::None);
    assert_eq!(outlets.grant(1, quota(10, 1099)), Some(Ok(true)));
    assert_eq!(outlets.room(1, 0), Room::None);
    assert_eq!(outlets.grant(1, quota(10, 1100)), Some(Ok(true)));
    assert_eq!(outlets.room(1, 0), Room::Some);
    // Less than before, or more than can be counted.
    assert_eq!(outlets.grant(1, quota(9, 1100)), Some(Err(())));
    assert_eq!(outlets.grant(1, quota(10, 1 << 31)), Some(Err(())));
    assert_eq!(outlets.grant(2, quota(1, 1)), None);
}

#[test]
fn what_waits_is_bounded_whatever_is_granted() {
    let mut outlets = outlets(&Config::new().stream_items(3).send_queue_bytes(600));
    let first = open(&mut outlets, 1, Some(ALL));
    (0..3).for_each(|_| put(&mut outlets, 1, 1));
    first.calm();
    // However often it asks, it waits once.
    (0..3).for_each(|_| assert_eq!(outlets.room(1, 0), Room::None));
    assert!(outlets.take_starved(0).is_empty() && outlets.has_starved());
    assert_eq!(next(&mut outlets), Some((1, 3)));
    assert!(matches!(&outlets.take_starved(0)[..], [outlet] if Arc::ptr_eq(outlet, &first)));
    assert!(!outlets.has_starved());
    // All together have a bound, too.
    put(&mut outlets, 1, 600);
    open(&mut outlets, 2, Some(ALL));
    assert_eq!(outlets.room(2, 0), Room::None);
    assert!(outlets.take_starved(0).is_empty());
    outlets.remove(1);
    assert_eq!(outlets.take_starved(0).len(), 1);
    assert_eq!(outlets.room(2, 0), Room::Some);
}

#[test]
fn ends_and_answers_go_behind_the_items() {
    let mut outlets = outlets(&Config::new());
    open(&mut outlets, 1, Some(ALL));
    put(&mut outlets, 1, 1);
    outlets.end(1);
    assert_eq!(outlets.room(1, 0), Room::Over);
    assert_eq!(
        [next(&mut outlets), next(&mut outlets), next(&mut outlets)],
        [Some((1, 1)), Some((1, 0)), None]
    );
    assert!(outlets.answer(1, answer(1)).is_some());
    assert!(!outlets.contains(1));

    open(&mut outlets, 2, Some(ALL));
    put(&mut outlets, 2, 1);
    put(&mut outlets, 2, 100_000);
    assert!(outlets.answer(2, answer(2)).is_none());
    assert_eq!((outlets.room(2, 0), outlets.contains(2)), (Room::Over, true));
    assert_eq!(next(&mut outlets), Some((2, 1)));
    assert_eq!(next(&mut outlets), Some((2, 1)));
    assert_eq!(outlets.has_left(2).map(|draft| draft.id), Some(2));
    assert!(outlets.is_empty());

    open(&mut outlets, 3, Some(ALL));
    put(&mut outlets, 3, 1);
    assert!(outlets.answer(3, answer(3)).is_none());
    let (_, behind) = outlets.next().expect("it has an item");
    assert_eq!(behind.map(|draft| draft.id), Some(3));

    // An end that has not gone yet goes with the answer.
    open(&mut outlets, 4, Some(ALL));
    outlets.end(4);
    assert!(outlets.answer(4, answer(4)).is_some());
    assert!(outlets.is_drained());
}

#[test]
fn nothing_goes_that_is_not_wanted() {
    let mut outlets = outlets(&Config::new());
    open(&mut outlets, 1, Some(ALL));
    put(&mut outlets, 1, 1);
    assert!(matches!(outlets.stop(1), Some((_, None))));
    assert_eq!((outlets.room(1, 0), outlets.is_drained(), outlets.bytes), (Room::Over, true, 0));
    assert!(outlets.put(1, 1, Item::Small(&item(1))).is_none());
    outlets.end(1);
    assert!(outlets.is_drained());
    assert!(outlets.answer(1, answer(1)).is_some());

    open(&mut outlets, 2, Some(ALL));
    put(&mut outlets, 2, 1);
    assert!(outlets.answer(2, answer(2)).is_none());
    assert!(matches!(outlets.stop(2), Some((_, Some(_)))));
    assert!(outlets.stop(2).is_none() && outlets.is_empty());
}

/// Red when those that wait for room are kept once they are over: a peer that acknowledges nothing could open and cancel
/// streams without end.
#[test]
fn p_15_streams_that_are_over_wait_for_no_room() {
    let full = || {
        let mut outlets = outlets(&Config::new());
        open(&mut outlets, 1, Some(ALL));
        outlets.limit = 1000;
        put(&mut outlets, 1, 2000);
        outlets
    };
    let ends: [fn(&mut Outlets, u64); 3] = [
        |outlets, id| assert!(outlets.remove(id).is_some()),
        |outlets, id| assert!(outlets.stop(id).is_some() && outlets.remove(id).is_some()),
        // Nobody but the list knows whoever waits for this one.
        |outlets, id| assert!(outlets.answer(id, answer(id)).is_some() && outlets.take_starved(0).len() == 1),
    ];
    for end in ends {
        let mut outlets = full();
        for id in 2..100 {
            let outlet = open(&mut outlets, id, Some(ALL));
            assert_eq!(outlets.room(id, 0), Room::None);
            assert!(outlets.take_starved(0).is_empty(), "there is no room");
            end(&mut outlets, id);
            assert!(!outlets.has_starved() && Arc::strong_count(&outlet) == 1);
        }
    }
}
