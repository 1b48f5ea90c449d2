//! Values as files, for whoever decodes them in another language: what does not decode, and what does.

use std::{collections::HashMap, fmt::Debug, path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{Chain, Maps, Shape, Tree, decoded, encoded, on_a_small_stack};

#[path = "../../../../tests/hostile/file.rs"]
#[allow(clippy::duplicate_mod, reason = "tests of several layers read the files")]
mod file;

use file::HostileFile;

/// Each on a small stack. Far more than one takes in an unoptimized build.
const LONG: Duration = Duration::from_secs(10);

fn play<T: Serialize + DeserializeOwned + Debug>(file: &HostileFile) {
    let (name, bytes) = (&file.name, file.stream());
    let began = std::time::Instant::now();
    let value = decoded::<T>(&bytes);
    assert!(began.elapsed() < LONG, "{name} took {:?}", began.elapsed());
    match (value, file.field("expected").expect("it expects something")) {
        (Ok(value), "the same bytes again") => assert!(encoded(&value) == bytes, "{name}: {value:?}"),
        (Ok(value), expected) => assert_eq!(format!("shown as {value:?}"), expected, "{name}"),
        (Err(error), expected) => {
            let why = expected.strip_prefix("refused, ").unwrap_or_else(|| panic!("{name}: {error}"));
            assert!(error.text().contains(why), "{name}: {error}");
        }
    }
}

fn play_as_its_type(file: &HostileFile) {
    match file.field("type").expect("it has a type") {
        "()" => play::<()>(file),
        "bool" => play::<bool>(file),
        "u8" => play::<u8>(file),
        "u16" => play::<u16>(file),
        "u64" => play::<u64>(file),
        "i128" => play::<i128>(file),
        "f64" => play::<f64>(file),
        "char" => play::<char>(file),
        "String" => play::<String>(file),
        "Option<u8>" => play::<Option<u8>>(file),
        "Vec<u8>" => play::<Vec<u8>>(file),
        "Vec<()>" => play::<Vec<()>>(file),
        "Vec<Vec<()>>" => play::<Vec<Vec<()>>>(file),
        "Vec<String>" => play::<Vec<String>>(file),
        "Vec<Vec<String>>" => play::<Vec<Vec<String>>>(file),
        "HashMap<u8, u32>" => play::<HashMap<u8, u32>>(file),
        "(String, Vec<u8>, (), Option<u8>, HashMap<u8, u32>)" => {
            play::<(String, Vec<u8>, (), Option<u8>, HashMap<u8, u32>)>(file);
        }
        "Shape" => play::<Shape>(file),
        "Chain" => play::<Chain>(file),
        "Tree" => play::<Tree>(file),
        "Maps" => play::<Maps>(file),
        other => panic!("{}: {other} is no type here", file.name),
    }
}

#[test]
fn d_37_to_d_47_the_files_of_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/value");
    let files = HostileFile::all(&folder);
    assert!(files.len() > 30, "{} files", files.len());
    on_a_small_stack(move || files.iter().for_each(play_as_its_type));
}
