//! Random operations on the ring, and on packets, against queues that cannot be wrong.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::lane;
use crate::transport::{
    Received,
    shm::{
        copy::WORD,
        lane::HeapLane,
        ring::{Consumer, Producer},
    },
};

#[derive(Clone, Debug)]
enum Step {
    /// So many bytes.
    Put(usize),
    Publish,
    Take(usize),
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1usize..100).prop_map(Step::Put),
        3 => Just(Step::Publish),
        3 => (1usize..100).prop_map(Step::Take),
        3 => Just(Step::Release),
    ];
    prop::collection::vec(step, 1..200)
}

/// A ring as three queues of words: put, published, and taken but not released.
#[derive(Default)]
struct Model {
    put: VecDeque<u64>,
    published: VecDeque<u64>,
    unreleased: usize,
}

impl Model {
    fn room(&self, capacity: usize) -> usize {
        capacity - self.put.len() - self.published.len() - self.unreleased
    }
}

proptest! {
    #[test]
    fn a_ring_is_a_queue_of_words(steps in steps(), log in 0u32..5) {
        let capacity = 1 << log;
        let lane = HeapLane::new(capacity);
        let (mut producer, mut consumer) = (Producer::new(lane.clone()), Consumer::new(lane));
        let (mut model, mut number) = (Model::default(), 0u64);
        for step in steps {
            match step {
                Step::Put(len) => {
                    let words: Vec<u64> = (0..len.div_ceil(WORD)).map(|i| number + i as u64 + 1).collect();
                    number += words.len() as u64;
                    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    bytes.truncate(len);
                    let expected = (model.room(capacity) * WORD).min(len);
                    prop_assert_eq!(producer.put(&bytes), Ok(expected));
                    for chunk in bytes[..expected].chunks(WORD) {
                        let mut word = [0; WORD];
                        word[..chunk.len()].copy_from_slice(chunk);
                        model.put.push_back(u64::from_ne_bytes(word));
                    }
                }
                Step::Publish => {
                    producer.publish();
                    model.published.append(&mut model.put);
                }
                Step::Take(len) => {
                    let mut bytes = vec![0xee; len];
                    let expected = (model.published.len() * WORD).min(len);
                    prop_assert_eq!(consumer.take(&mut bytes), Ok(expected));
                    for chunk in bytes[..expected].chunks(WORD) {
                        let word = model.published.pop_front().unwrap().to_ne_bytes();
                        prop_assert_eq!(chunk, &word[..chunk.len()]);
                        model.unreleased += 1;
                    }
                    prop_assert!(bytes[expected..].iter().all(|byte| *byte == 0xee));
                }
                Step::Release => {
                    consumer.release();
                    model.unreleased = 0;
                }
            }
            prop_assert!(!consumer.has_news() || !model.published.is_empty());
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in(sizes in prop::collection::vec(1usize..120, 1..200), hold in 0usize..6) {
        let (_, mut sender, mut receiver, _) = lane(128);
        receiver.never_join();
        let mut under_way = VecDeque::new();
        for (number, len) in sizes.into_iter().enumerate() {
            let packet = vec![number as u8; len];
            sender.send_packet(&packet).unwrap();
            under_way.push_back(packet);
            while under_way.len() > hold {
                let packet = under_way.pop_front().unwrap();
                prop_assert_eq!(receiver.look().unwrap(), Some(Received::Packet(packet)));
            }
        }
        for packet in under_way {
            prop_assert_eq!(receiver.look().unwrap(), Some(Received::Packet(packet)));
        }
        prop_assert_eq!(receiver.look().unwrap(), None);
    }

    #[test]
    fn what_waits_comes_in_few_pieces(rounds in prop::collection::vec(prop::collection::vec(small_or_large(), 1..30), 1..10)) {
        let (_, mut sender, mut receiver, _) = lane(1 << 16);
        for (round, sizes) in rounds.into_iter().enumerate() {
            let packets: Vec<Vec<u8>> = sizes.iter().map(|len| vec![round as u8; *len]).collect();
            packets.iter().for_each(|packet| sender.send_packet(packet).unwrap());
            let mut came = Vec::new();
            let mut n_pieces = 0;
            while let Some(found) = receiver.look().unwrap() {
                let Received::Packet(piece) = found else { panic!("{found:?}") };
                came.extend_from_slice(&piece);
                n_pieces += 1;
            }
            prop_assert_eq!(came, packets.concat());
            // A large one stands alone behind small ones; of those, each piece but the last is full.
            let n_large = sizes.iter().filter(|len| **len > 2048).count();
            let small: usize = sizes.iter().filter(|len| **len <= 2048).sum();
            prop_assert!(n_pieces <= 2 * n_large + small / 2048 + 1, "{n_pieces} of {sizes:?}");
        }
    }
}

fn small_or_large() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..300, 1 => 2049usize..20_000]
}
