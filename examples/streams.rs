//! Streams over a trait: the child finds files and hashes lines, one after the other. This program is both.
//!
//! ```sh
//! cargo run --example streams
//! ```

use std::{collections::HashSet, env, error::Error, path::PathBuf, process::Command, time::Duration};

use nape::{CallError, Fault, Head, Incoming, Neck, Next};

#[nape::api("files")]
trait Files {
    /// Every file below a directory, with its size.
    #[stream]
    fn scan(
        &self,
        dir: PathBuf,
    ) -> Result<impl Iterator<Item = Result<(PathBuf, u64), Fault>> + Send + use<Self>, Fault>;
    /// How many different ones there are of these.
    fn distinct(&self, words: Incoming<String>) -> Result<usize, Fault>;
}

struct MyFiles;

impl Files for MyFiles {
    fn scan(
        &self,
        dir: PathBuf,
    ) -> Result<impl Iterator<Item = Result<(PathBuf, u64), Fault>> + Send + use<>, Fault> {
        dir.metadata()?;
        let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter();
        let files = files.filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_type().is_file()));
        Ok(files.map(|entry| {
            let entry = entry?;
            Ok((entry.path().to_owned(), entry.metadata()?.len()))
        }))
    }

    fn distinct(&self, words: Incoming<String>) -> Result<usize, Fault> {
        let words: HashSet<String> = words.collect::<Result<_, CallError>>()?;
        Ok(words.len())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") { child() } else { parent() }
}

fn child() -> Result<(), Box<dyn Error>> {
    Ok(Neck::from_env()?.serve(MyFiles.into_api())?.run()?)
}

fn parent() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("child");
    let head = Head::spawn(command)?;
    let files = FilesClient::on(&head);

    // The child looks no further ahead than a few dozen files, however slow this loop is.
    let mut scan = files.scan(concat!(env!("CARGO_MANIFEST_DIR"), "/src").into()).open()?;
    for entry in scan.by_ref().take(3) {
        let (path, size) = entry?;
        println!("{size:>8} {}", path.display());
    }
    if let Next::Item((path, _)) = scan.next_timeout(Duration::from_secs(1))? {
        println!("         {} and so on", path.display());
    }
    drop(scan); // the child stops to look

    let mut distinct = files.distinct().open()?;
    for word in "to be or not to be that is the question".split(' ') {
        distinct.send(word.to_owned())?;
    }
    println!("{} different words", distinct.finish()?);
    let none = files.scan("/nowhere".into()).open()?.next();
    println!("nowhere: {}", none.and_then(Result::err).ok_or("it should not be there")?);
    Ok(())
}
