//! The lane against a naive one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    Finish,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![8 => Just(Step::Admit), 8 => Just(Step::Finish), 1 => Just(Step::Close)];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn ac_61_order_limit_and_bound_hold(limit in 1_usize..5, bound in 0_usize..6, steps in steps()) {
        let lane = Lane::new(limit);
        let (mut running, mut queue, mut closed, mut next) = (0, VecDeque::new(), false, 0);
        for step in steps {
            match step {
                Step::Admit => {
                    next += 1;
                    let expected = if closed {
                        Admission::Closed(next)
                    } else if running < limit {
                        running += 1;
                        Admission::Run(next)
                    } else if queue.len() < bound {
                        queue.push_back(next);
                        Admission::Queued
                    } else {
                        Admission::Full(next)
                    };
                    prop_assert_eq!(lane.admit(next, bound), expected);
                }
                Step::Finish if running > 0 => {
                    let expected = queue.pop_front();
                    running -= usize::from(expected.is_none());
                    prop_assert_eq!(lane.next(), expected);
                }
                Step::Finish => {}
                Step::Close => {
                    closed = true;
                    prop_assert_eq!(lane.close(), std::mem::take(&mut queue));
                }
            }
            prop_assert_eq!(lane.depth(), (running, queue.len()));
        }
    }
}
