//! A message goes as it is, however it lies.

use super::*;

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 * 31 + at) as u8).collect()
}

/// The bodies of all frames, one behind the other, and how many frames went from where they lay.
fn sent(load: Load) -> (Vec<u8>, usize) {
    let (len, mut from) = (load.len(), HEADER_LEN);
    let mut draft = Draft { kind: Kind::Call, id: 1, load };
    let (mut packet, mut bytes, mut n_lent) = (Packet::default(), Vec::new(), 0);
    while from < len {
        let to = len.min(from + FRAME_LIMIT - HEADER_LEN);
        let frame = packet.add(&mut draft, from..to);
        assert_eq!(frame.len(), HEADER_LEN + to - from);
        frame[..HEADER_LEN].fill(0xff);
        bytes.extend_from_slice(&packet.bytes()[HEADER_LEN..]);
        n_lent += usize::from(packet.lent.is_some());
        packet.sent();
        if let Some((Kind::Call, 1, load)) = packet.take_back() {
            draft.load = load;
        }
        from = to;
    }
    (bytes, n_lent)
}

#[test]
fn a_message_leaves_whole_however_it_lies() {
    let frame = FRAME_LIMIT - HEADER_LEN;
    for size in [1, 100, frame - 1, frame, frame + 1, 2 * frame, 5 * frame - 30, 5 * frame + 30] {
        let whole = body(size);
        let (bytes, n_lent) = sent([&[0; HEADER_LEN], &whole[..]].concat().into());
        assert!(bytes == whole, "{size} bytes in one buffer");
        assert_eq!(n_lent, if size > frame { size.div_ceil(frame) } else { 0 });
        for (split, at) in [(0, 0), (1, 0), (40, 0), (40, 10), (40, HEADER_LEN + 40), (40, 1000)] {
            let split = split.min(size);
            let head = [&[0; HEADER_LEN], &whole[..split]].concat();
            let tail = [&vec![9; at], &whole[split..]].concat();
            let (bytes, _) = sent(Load::new(head, tail, at));
            assert!(bytes == whole, "{size} bytes, of which {split} are apart, and {at} before the rest");
        }
    }
}

#[test]
fn only_the_first_frame_of_raw_bytes_is_copied_and_not_even_that_with_room_before_them() {
    let head = vec![0; HEADER_LEN + 30];
    let raw = body(1 << 20);
    let n_frames = (30 + (1usize << 20)).div_ceil(FRAME_LIMIT - HEADER_LEN);
    assert_eq!(sent(Load::new(head.clone(), raw.clone(), 0)).1, n_frames - 1);
    let with_room = [&body(54)[..], &raw].concat();
    assert_eq!(sent(Load::new(head, with_room, 54)).1, n_frames);
}
