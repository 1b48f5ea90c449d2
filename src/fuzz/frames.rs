//! Bytes as a stream of frames, and the bodies of the frames as what they claim to be.

use crate::{
    error::CallError,
    wire::{
        Bye, CallHead, Codec, EventHead, FRAME_LIMIT, FaultRecord, HEADER_LEN, Header, Hello, Kind, OpenHead,
        Path, Quota, Side, Taken, Token, first_item, take_frame, whole_frames,
    },
};

/// Takes the bytes as a stream, cut in two at a place that the first two of them give.
///
/// # Panics
///
/// When what is read depends on the cut, or reads otherwise once it was written again.
pub fn frames(data: &[u8]) {
    let Some((at, stream)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_le_bytes(*at)).min(stream.len());
    let (whole, before) = (whole_frames(stream), whole_frames(&stream[..cut]));
    assert!(before <= cut && whole <= stream.len() && before <= whole);
    let mut rest = &stream[..whole];
    while !rest.is_empty() {
        // What cannot be a frame is handed out at once, wherever the stream is cut.
        let Ok(taken) = take_frame(rest) else { return };
        let len = match taken {
            Taken::Frame(header, len) => {
                look_into(&header, &rest[..len]);
                len
            }
            Taken::Skipped(len) => len,
        };
        assert!((HEADER_LEN..=FRAME_LIMIT).contains(&len));
        let taken = whole - rest.len() + len;
        assert!(taken > cut || taken <= before, "a whole frame before the cut is not handed out");
        rest = &rest[len..];
    }
}

fn look_into(header: &Header, frame: &[u8]) {
    let mut again = frame.to_vec();
    header.write(&mut again);
    // That a frame of a known kind could be skipped means nothing.
    again[5] |= frame[5] & 4;
    assert!(again == frame, "{header:?} is written otherwise");
    let body = &frame[HEADER_LEN..];
    match header.kind {
        Kind::Hello => [Side::Head, Side::Neck].into_iter().for_each(|from| hello(body, from)),
        Kind::Call => call(body),
        Kind::Open => open(body),
        Kind::Event => event(body),
        Kind::Fault => fault(body),
        Kind::StreamItem => items(body),
        Kind::StreamQuota => drop(Quota::read(body)),
        Kind::Bye => drop(Bye::read(body)),
        _ => {}
    }
}

fn hello(body: &[u8], from: Side) {
    let token = Token::default();
    if let Ok(read) = Hello::read(body, from, &token) {
        let mut again = Vec::new();
        read.write(&mut again);
        let Ok(read_again) = Hello::read(&again, from, &token) else {
            panic!("{read:?} is written otherwise")
        };
        // The name of the library is for people to read, and may be cut.
        let fixed = |hello: &Hello| format!("{hello:?}").split("library").next().map(str::to_owned);
        assert_eq!(fixed(&read_again), fixed(&read));
    }
}

fn call(body: &[u8]) {
    let Ok((head, len)) = CallHead::read(body) else { return };
    assert!(len <= body.len());
    if !is_path(head.path) {
        return;
    }
    let mut again = Vec::new();
    head.write(&mut again);
    assert_eq!(CallHead::read(&again), Ok((head, again.len())));
}

fn open(body: &[u8]) {
    let Ok(head) = OpenHead::read(body) else { return };
    let mut again = Vec::new();
    head.write(&mut again);
    assert_eq!(OpenHead::read(&again), Ok(head));
    call(&body[OpenHead::LEN..]);
}

fn event(body: &[u8]) {
    let Ok((head, len)) = EventHead::read(body) else { return };
    assert!(len <= body.len());
    if !is_path(head.path) {
        return;
    }
    let mut again = Vec::new();
    head.write(&mut again);
    assert_eq!(EventHead::read(&again), Ok((head, again.len())));
}

fn is_path(bytes: &[u8]) -> bool {
    let Some(path) = std::str::from_utf8(bytes).ok().and_then(|text| Path::new(text).ok()) else {
        return false;
    };
    assert!(!bytes.is_empty() && bytes.len() <= Path::MAX_LEN);
    assert_eq!(path.as_str().as_bytes(), bytes);
    true
}

fn items(mut body: &[u8]) {
    while let Ok(item) = first_item(body) {
        assert!(item.start <= item.end && item.end <= body.len());
        body = &body[item.end..];
    }
}

fn fault(body: &[u8]) {
    let codec = Codec::default();
    let Ok(record) = FaultRecord::read(body) else { return };
    let error = CallError::from_record(record, codec);
    // Whatever a peer says can be shown, and passed on to somebody else.
    let shown = format!("{error} {error:?}");
    let mut again = Vec::new();
    error.to_record(codec).write(&mut again);
    let Ok(record) = FaultRecord::read(&again) else { panic!("{shown} is written otherwise") };
    let mut third = Vec::new();
    CallError::from_record(record, codec).to_record(codec).write(&mut third);
    assert!(again == third, "{shown} changes on its way");
}
