//! Inputs as files, which a fuzzer wants, and as lines of a text, which a repository wants.
//!
//! ```text
//! corpus unpack tests/corpus/frames.hex FOLDER    a file for each line
//! corpus pack FOLDER tests/corpus/frames.hex      lines for the files that have none yet
//! corpus seeds tests/hostile frames FOLDER        a file for each hostile case
//! ```

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

#[path = "../hostile/seeds.rs"]
mod seeds;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", text, folder] => unpack(text.as_ref(), folder.as_ref()),
        ["pack", folder, text] => pack(folder.as_ref(), text.as_ref()),
        ["seeds", hostile, target, folder] => seed(hostile.as_ref(), target, folder.as_ref()),
        _ => Err("usage: corpus unpack TEXT FOLDER | pack FOLDER TEXT | seeds HOSTILE TARGET FOLDER".into()),
    }
}

fn unpack(text: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let text = fs::read_to_string(text)?;
    for (index, line) in text.lines().filter(|line| !line.starts_with('#')).enumerate() {
        let digits = line.as_bytes().chunks(2);
        let bytes: Result<Vec<u8>, _> =
            digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16)).collect();
        fs::write(folder.join(format!("line-{index:04}")), bytes?)?;
    }
    Ok(())
}

fn seed(hostile: &Path, target: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for (name, seed) in seeds::seeds(target, hostile) {
        fs::write(folder.join(name), seed)?;
    }
    Ok(())
}

fn pack(folder: &Path, text: &Path) -> Result<(), Box<dyn Error>> {
    let mut lines = fs::read_to_string(text)?;
    let known: BTreeSet<&str> = lines.lines().collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let mut fresh = BTreeSet::new();
    for file in files {
        let mut line = String::new();
        for byte in fs::read(file)? {
            write!(line, "{byte:02x}")?;
        }
        if !known.contains(&*line) {
            fresh.insert((line.len(), line));
        }
    }
    for (_, line) in fresh {
        writeln!(lines, "{line}")?;
    }
    fs::write(text, lines)?;
    Ok(())
}
