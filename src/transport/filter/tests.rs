//! Records by hand, and the contract of a transport with filters around it.

use fastrand::Rng;
use proptest::prelude::*;

use super::{
    record::{Packer, Unpacker},
    seal::Handshake,
    *,
};
use crate::{
    config::{Compression, Config, Key},
    transport::{
        Received,
        contract::{self, leaves_what_has_no_room},
        ipc_pair, memory_pair, pipe_pair,
    },
    wire::{Ack, FRAME_LIMIT, Flags, HEADER_LEN, Header, Hello, Kind, ProtocolError, RECORD, Side, Token},
};

fn lz4() -> Config {
    Config::new().compression(Compression::Lz4)
}

fn sealed() -> Config {
    Config::new().encryption(Key::from_bytes([7; 32]))
}

fn both() -> Config {
    lz4().encryption(Key::from_bytes([7; 32]))
}

fn session(config: &Config, side: Side) -> Arc<Session> {
    Arc::new(Session::new(config, side).unwrap().unwrap())
}

fn hello_of(session: &Session, side: Side) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    session.greet(Hello::ours(side, Token::default()), &mut frame);
    let header = Header { kind: Kind::Hello, flags: Flags::default(), id: 0, ack: Ack::default() };
    header.write(&mut frame);
    frame
}

/// Both ends, which have greeted each other.
fn agreed(config: &Config, ends: (Transport, Transport)) -> (Transport, Transport) {
    let sides = [Side::Head, Side::Neck];
    let sessions = sides.map(|side| session(config, side));
    let mut ends =
        [(ends.0, &sessions[0]), (ends.1, &sessions[1])].map(|(end, session)| filtered(end, session));
    let hellos = [0, 1].map(|i| hello_of(&sessions[i], sides[i]));
    for (end, hello) in ends.iter_mut().zip(&hellos) {
        end.sender.send(hello).unwrap();
    }
    for i in [0, 1] {
        let came = ends[i].receiver.receive(None).unwrap();
        assert_eq!(came, Received::Packet(hellos[1 - i].clone()), "a hello passes as it is");
        sessions[i].agree(&hellos[1 - i][HEADER_LEN..]).unwrap();
    }
    ends.into()
}

/// Red when a record that follows one without room overtakes it, or is lost.
#[test]
fn p_04_records_that_have_no_room_are_left_and_go_later() {
    for config in [lz4(), sealed(), both()] {
        leaves_what_has_no_room(agreed(&config, pipe_pair().unwrap()));
    }
}

/// Ciphers that are not optimized take longer than the contract waits for anything.
fn all_there_is_time_for() -> Config {
    if cfg!(debug_assertions) { lz4() } else { both() }
}

/// Red when a record is longer than a frame, or a packet comes out in parts.
#[test]
fn the_contract_holds_in_memory() {
    contract::check(|| agreed(&all_there_is_time_for(), memory_pair()));
}

#[test]
fn the_contract_holds_over_a_pipe() {
    contract::check(|| agreed(&all_there_is_time_for(), pipe_pair().unwrap()));
}

/// Red when what records add is more than the socket has room for.
#[test]
fn the_contract_holds_over_ipc_channel() {
    contract::check(|| agreed(&all_there_is_time_for(), ipc_pair().unwrap()));
}

#[cfg(not(loom))]
#[test]
fn the_contract_holds_over_shared_memory() {
    contract::check(|| agreed(&all_there_is_time_for(), crate::transport::shm_pair().unwrap()));
}

/// A packer and the unpacker of the other side.
fn pair(config: &Config) -> (Packer, Unpacker) {
    let (head, neck) = (session(config, Side::Head), session(config, Side::Neck));
    head.agree(&hello_of(&neck, Side::Neck)[HEADER_LEN..]).unwrap();
    neck.agree(&hello_of(&head, Side::Head)[HEADER_LEN..]).unwrap();
    (head.packer().unwrap(), neck.unpacker().unwrap())
}

fn records(packer: &mut Packer, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let keep = |record: &[u8]| {
        records.push(record.to_vec());
        Ok(())
    };
    packer.pack(packet, keep).unwrap();
    records
}

fn unpack(unpacker: &mut Unpacker, records: &[Vec<u8>]) -> Result<Vec<u8>, ProtocolError> {
    let mut packet = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let goes_on = unpacker.unpack(&mut record.clone(), &mut packet)?;
        assert_eq!(goes_on, i + 1 < records.len());
    }
    Ok(packet)
}

fn random(len: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(len as u64);
    (0..len).map(|_| random.u8(..)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a packet holds, it comes out as it was, and each record is a frame to a transport.
    #[test]
    fn a_packet_comes_out_as_it_was(
        which in 0..3usize,
        packets in prop::collection::vec(
            (prop_oneof![1..600usize, 60_000..=FRAME_LIMIT], 0..4u8), 1..5,
        ),
    ) {
        let (mut packer, mut unpacker) = pair(&[lz4(), sealed(), both()][which]);
        for (len, content) in packets {
            let packet = match content {
                0 => vec![7; len],
                1 => random(len),
                2 => b"the same words again and again, ".iter().copied().cycle().take(len).collect(),
                _ => [random(len / 2), vec![0; len - len / 2]].concat(),
            };
            let records = records(&mut packer, &packet);
            for record in &records {
                prop_assert!((HEADER_LEN..=FRAME_LIMIT).contains(&record.len()));
                prop_assert_eq!(crate::wire::frame_len(record), Some(Ok(record.len())));
                prop_assert_eq!(record[4], RECORD);
            }
            prop_assert_eq!(unpack(&mut unpacker, &records).unwrap(), packet);
        }
    }

    #[test]
    fn random_records_never_panic(which in 0..3usize, content in prop::collection::vec(any::<u8>(), 19..300)) {
        let (_, mut unpacker) = pair(&[lz4(), sealed(), both()][which]);
        let mut packet = Vec::new();
        let mut record = [&(content.len() as u32 + 1).to_le_bytes()[..], &[RECORD], &content].concat();
        // That of compressed records is small enough to be hit.
        record[5] &= 3;
        let opened = unpacker.unpack(&mut record, &mut packet);
        prop_assert!(which == 0 || opened.is_err());
        prop_assert!(packet.len() <= FRAME_LIMIT);
    }

    #[test]
    fn random_hellos_never_panic(behind in prop::collection::vec(any::<u8>(), 0..100)) {
        let ours = session(&both(), Side::Head);
        let mut body = Vec::new();
        Hello::ours(Side::Neck, Token::default()).write(&mut body);
        body.extend(behind);
        prop_assert!(ours.agree(&body).is_err());
        prop_assert!(!ours.is_agreed());
    }
}

/// Red when small packets, or those that do not shrink, are compressed.
#[test]
fn only_what_shrinks_is_compressed() {
    let (mut packer, _) = pair(&lz4());
    let mut len = |packet: &[u8]| records(&mut packer, packet).iter().map(Vec::len).sum::<usize>();
    assert_eq!(len(&[0; 255]), 255 + 8);
    assert_eq!(len(&random(4000)), 4000 + 8);
    assert!(len(&[0; 4000]) < 100);
    assert!(len(&[0; FRAME_LIMIT]) < 400);
    assert_eq!(len(&random(FRAME_LIMIT)), FRAME_LIMIT + 2 * 8);
}

fn bomb(flags: u8, unpacked: u16, content: &[u8]) -> Vec<u8> {
    let mut record = [&[0; 4][..], &[RECORD, flags], &unpacked.to_le_bytes(), content].concat();
    record.resize(record.len().max(HEADER_LEN), 0);
    record
}

/// Red when what a record says of its length is not compared with what is allowed, and with what comes.
#[test]
fn what_expands_too_far_is_refused() {
    let (mut packer, mut unpacker) = pair(&lz4());
    let zeros = records(&mut packer, &[0; 4000]).remove(0);
    let content = &zeros[8..];
    let mut open = |record: Vec<u8>| unpack(&mut unpacker, &[record]).map(|packet| packet.len());
    assert_eq!(open(bomb(1, 4000, content)), Ok(4000));
    for (unpacked, why) in [(3999, "more"), (4001, "less"), (61_440, "less"), (1, "more")] {
        let error = open(bomb(1, unpacked, content)).unwrap_err();
        assert!(matches!(error, ProtocolError::BadRecord(text) if text.contains(why)), "{unpacked}: {error}");
    }
    let limit = FRAME_LIMIT as u64;
    assert_eq!(open(bomb(1, 61_441, content)), Err(ProtocolError::TooLarge { len: 61_441, limit }));
    assert_eq!(open(bomb(1, u16::MAX, content)), Err(ProtocolError::TooLarge { len: 65_535, limit }));
    assert!(matches!(open(bomb(1, 0, content)), Err(ProtocolError::BadRecord(_))));
    assert!(matches!(open(bomb(0, 100, &[0; 99])), Err(ProtocolError::BadRecord("it is cut off"))));
    assert_eq!(open(bomb(4, 100, &[0; 100])), Err(ProtocolError::ReservedBits));
    // What goes on and on is no longer than a packet either.
    let mut packet = Vec::new();
    let part = || bomb(3, 4000, content);
    let refused = (0..100).find_map(|_| unpacker.unpack(&mut part(), &mut packet).err());
    assert_eq!(refused, Some(ProtocolError::TooLarge { len: 64_000, limit }));
    let (_, mut unpacker) = pair(&sealed());
    assert!(matches!(unpack(&mut unpacker, &[bomb(1, 4000, content)]), Err(ProtocolError::BadSeal(0))));
}

/// Red when a record opens that is not the next one of the other side, as it was.
#[test]
fn only_the_next_record_opens() {
    let packets: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 40]).collect();
    let sealed_by = |packer: &mut Packer| -> Vec<Vec<u8>> {
        packets.iter().map(|packet| records(packer, packet).remove(0)).collect()
    };
    let good = {
        let (mut packer, mut unpacker) = pair(&sealed());
        let records = sealed_by(&mut packer);
        for (record, packet) in records.iter().zip(&packets) {
            assert_eq!(&unpack(&mut unpacker, std::slice::from_ref(record)).unwrap(), packet);
        }
        records
    };
    let refused = |change: &dyn Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>| -> ProtocolError {
        let (mut packer, mut unpacker) = pair(&sealed());
        let records = change(sealed_by(&mut packer));
        records.iter().find_map(|record| unpack(&mut unpacker, std::slice::from_ref(record)).err()).unwrap()
    };
    let repeated = |mut records: Vec<Vec<u8>>| (records.insert(1, records[0].clone()), records).1;
    let swapped = |mut records: Vec<Vec<u8>>| (records.swap(1, 2), records).1;
    let dropped = |mut records: Vec<Vec<u8>>| (records.remove(2), records).1;
    let of_another_link = |mut records: Vec<Vec<u8>>| (records[3] = good[3].clone(), records).1;
    let cut = |mut records: Vec<Vec<u8>>| (records[0].pop(), records).1;
    assert_eq!(refused(&repeated), ProtocolError::BadSeal(1));
    assert_eq!(refused(&swapped), ProtocolError::BadSeal(1));
    assert_eq!(refused(&dropped), ProtocolError::BadSeal(2));
    assert_eq!(refused(&of_another_link), ProtocolError::BadSeal(3));
    assert_eq!(refused(&cut), ProtocolError::BadSeal(0));
    for at in 0..good[0].len() {
        let flipped = |mut records: Vec<Vec<u8>>| (records[0][at] ^= 1, records).1;
        assert_eq!(refused(&flipped), ProtocolError::BadSeal(0), "byte {at}");
    }
}

/// Red when both directions have the same key.
#[test]
fn what_comes_back_to_its_sender_does_not_open() {
    let (head, neck) = (session(&sealed(), Side::Head), session(&sealed(), Side::Neck));
    head.agree(&hello_of(&neck, Side::Neck)[HEADER_LEN..]).unwrap();
    let record = records(&mut head.packer().unwrap(), &[1; 40]);
    assert_eq!(unpack(&mut head.unpacker().unwrap(), &record), Err(ProtocolError::BadSeal(0)));
}

/// Red when the proof leaves out anything of a hello, or is not looked at.
#[test]
fn a_hello_that_was_changed_is_refused() {
    let (head, neck) = (session(&both(), Side::Head), session(&both(), Side::Neck));
    let body = hello_of(&neck, Side::Neck)[HEADER_LEN..].to_vec();
    for at in 0..body.len() {
        let mut changed = body.clone();
        changed[at] ^= 1;
        // The length of the version moves what stands behind it.
        let expected = if at == 32 { None } else { Some(ProtocolError::WrongKey) };
        let error = head.agree(&changed).unwrap_err();
        assert!(expected.is_none_or(|expected| expected == error), "byte {at}: {error}");
    }
    for len in 0..body.len() {
        head.agree(&body[..len]).unwrap_err();
    }
    assert!(!head.is_agreed());
    let other = session(&Config::new().encryption(Key::from_bytes([8; 32])), Side::Neck);
    assert_eq!(head.agree(&hello_of(&other, Side::Neck)[HEADER_LEN..]), Err(ProtocolError::WrongKey));
    // What a later version says more stands behind the proof.
    head.agree(&[&body[..], &[1, 2, 3]].concat()).unwrap();
}

/// Red when frames leave before there is something to seal them with.
#[test]
fn nothing_passes_before_both_have_agreed() {
    let (ours, mut theirs) = memory_pair();
    let session = session(&both(), Side::Head);
    let mut end = filtered(ours, &session);
    let header = |kind| {
        let mut frame = vec![0; HEADER_LEN + 2];
        Header { kind, flags: Flags::default(), id: 0, ack: Ack::default() }.write(&mut frame);
        frame
    };
    assert!(end.sender.send(&header(Kind::Ready)).is_err());
    end.sender.send(&hello_of(&session, Side::Head)).unwrap();
    assert!(end.sender.send(&hello_of(&session, Side::Head)).is_err());
    assert!(end.sender.send(&header(Kind::Ready)).is_err());
    assert!(end.sender.send(&[header(Kind::Bye), header(Kind::Event)].concat()).is_err());
    let mut kinds = Vec::new();
    while let Some(Received::Packet(packet)) = theirs.receiver.try_receive().unwrap() {
        kinds.push(packet[4]);
    }
    assert_eq!(kinds, [Kind::Hello as u8, Kind::Bye as u8]);
}

/// The files for whoever writes the other end in another language: a Head and a Neck with the key 0, 1, 2 .. 31, the
/// salts of which are 32 times 0x11 and 32 times 0x22.
#[test]
fn p_37_hellos_and_records_are_those_of_the_golden_files() {
    let key = || Key::from_bytes(std::array::from_fn(|i| i as u8));
    let config = lz4().encryption(key());
    let salted = |side, salt| Session::salted(config.filters(), Handshake::salted(key(), side, [salt; 32]));
    let (head, neck) = (salted(Side::Head, 0x11), salted(Side::Neck, 0x22));
    let token = Token(std::array::from_fn(|i| i as u8));
    let hello = |session: &Session, side| {
        let mut frame = vec![0; HEADER_LEN];
        session.greet(Hello { library: "0.1.0".into(), ..Hello::ours(side, token) }, &mut frame);
        Header { kind: Kind::Hello, flags: Flags::default(), id: 0, ack: Ack::default() }.write(&mut frame);
        frame
    };
    let (of_head, of_neck) = (hello(&head, Side::Head), hello(&neck, Side::Neck));
    head.agree(&of_neck[HEADER_LEN..]).unwrap();
    neck.agree(&of_head[HEADER_LEN..]).unwrap();
    let mut ping = vec![0; HEADER_LEN];
    Header { kind: Kind::Ping, flags: Flags::default(), id: 7, ack: Ack::default() }.write(&mut ping);
    let mut event = [&[0; HEADER_LEN][..], b"\x01e", &[7; 600]].concat();
    Header { kind: Kind::Event, flags: Flags::default(), id: 1, ack: Ack::default() }.write(&mut event);
    let mut sealing = head.packer().unwrap();
    let mut compressing = Packer::new(true, None);
    let made = [
        ("hello_head", of_head),
        ("hello_neck", of_neck),
        ("record_sealed_0", records(&mut sealing, &ping).remove(0)),
        ("record_sealed_1", records(&mut sealing, &event).remove(0)),
        ("record_compressed", records(&mut compressing, &event).remove(0)),
        ("record_as_it_is", records(&mut compressing, &ping).remove(0)),
    ];
    for (name, bytes) in &made {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("{}/tests/golden_filters/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let there: String = lines.flat_map(str::chars).filter(char::is_ascii_hexdigit).collect();
        assert_eq!(there, hex, "{name}");
    }
    // They are read as what they were made of.
    let open = |session: &Session, records: &[Vec<u8>]| {
        let mut unpacker = session.unpacker().unwrap();
        records
            .iter()
            .map(|record| unpack(&mut unpacker, std::slice::from_ref(record)).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(open(&neck, &[made[2].1.clone(), made[3].1.clone()]), [ping, event]);
}
