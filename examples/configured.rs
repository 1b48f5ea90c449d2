//! A file says which program is started, over what, with which limits, and what it serves. This program is both ends.
//!
//! ```text
//! cargo run --example configured --features config-file
//! ```

use std::{env, error::Error, fs, process};

use nape::{
    Context, Fault,
    config_file::{ConfigFile, Handlers, check},
};

const FILE: &str = r#"
    [links.words]
    spawn = { program = "THIS", arguments = ["FILE"], wire = "pipe", environment = { LANGUAGE = "en" } }
    config = { timeout = "5s", limits.message_bytes = "64 KiB" }
    neck.serve = ["words"]

    [apis.words]
    namespace = "text.words"
    workers = 2
    queue = 64
    when_full = "wait"
    defaults = { timeout = "2s" }
    [apis.words.methods]
    count = {}
    longest = { handler = "text.find_longest", timeout = "500ms", retry_safe = true }
"#;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(file) => worker(&file),
        None => parent(),
    }
}

/// The Neck: it has the handlers, and the file says where they are served.
fn worker(file: &str) -> Result<(), Box<dyn Error>> {
    let count = |_: &Context, text: String| Ok::<_, Fault>(text.split_whitespace().count());
    let longest = |_: &Context, text: String| {
        let word = text.split_whitespace().max_by_key(|word| word.len());
        word.map(str::to_owned).ok_or_else(|| Fault::new("there is no word"))
    };
    let handlers = Handlers::new().handle("text.words.count", count)?.handle("text.find_longest", longest)?;
    Ok(ConfigFile::read(file)?.neck("words", &handlers)?.run()?)
}

/// The Head: it reads the same file, and serves nothing.
fn parent() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("configured-{}.toml", process::id()));
    let this = env::current_exe()?;
    let text = FILE.replace("THIS", &this.to_string_lossy()).replace("FILE", &path.to_string_lossy());
    fs::write(&path, &text)?;
    print!("{}", check(&path)?);

    let file = ConfigFile::read(&path)?;
    let head = file.head("words", &Handlers::new())?;
    let words = file.caller("words", &head)?;
    let line = "it was the best of times".to_owned();
    println!("{} words", words.action("count", line.clone()).call::<usize>()?);
    println!("the longest is {:?}", words.action("longest", line).call::<String>()?);

    // What is wrong with a file is told before anything is made.
    for (right, wrong) in
        [("workers = 2", "worker = 2"), ("\"5s\"", "5"), ("serve = [\"words\"]", "serve = [\"word\"]")]
    {
        fs::write(&path, text.replace(right, wrong))?;
        println!("{}", check(&path).expect_err("it is wrong"));
    }
    fs::remove_file(path)?;
    Ok(())
}
