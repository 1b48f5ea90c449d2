//! Files that are checked.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{json, printed, run, spare_path};

const GOOD: &str = r#"
[links.thumbs]
spawn = { program = "thumbs-worker" }
neck.serve = ["thumbs"]
[links.control]
meet.address = "unix:/run/user/1000/app.sock"

[apis.thumbs]
methods = ["make"]
"#;

/// A file that goes with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        let path = spare_path("toml");
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn a_good_file_is_one_line() {
    let file = File::new(GOOD);
    let said = printed(&["check", file.name()]);
    assert_eq!(said, format!("{} is good: links control, thumbs, API thumbs\n", file.name()));
    let said = json(&["check", "--json", file.name()]);
    let links = ["control", "thumbs"];
    assert_eq!(
        said,
        json!({"file": file.name(), "is_good": true, "links": links, "apis": ["thumbs"], "mistakes": []})
    );
}

#[test]
fn every_mistake_is_a_line_with_its_place_its_key_and_what_was_expected() {
    let text = GOOD.replace("spawn = {", "wire = 1\nspawn = { wire = 'shn',").replace("[\"make\"]", "7");
    let file = File::new(&text);
    let ended = run(&["check", file.name()]);
    assert_eq!(ended.code, Some(8), "{ended:?}");
    let lines: Vec<_> = ended.out.lines().collect();
    let [unknown, wire, methods] = &lines[..] else { panic!("{lines:?}") };
    for (line, place, parts) in [
        (unknown, "3:1", &["links.thumbs.wire: found the key `wire`", "expected one of"][..]),
        (wire, "4:18", &["links.thumbs.spawn.wire: found the value `shn`", "is `shm` meant?"]),
        (methods, "10:11", &["apis.thumbs.methods: found 7", "expected an array of names, or a table"]),
    ] {
        assert!(line.starts_with(&format!("{}:{place}: ", file.name())), "{line}");
        parts.iter().for_each(|part| assert!(line.contains(part), "no {part:?} in {line}"));
    }
    assert_eq!(ended.err, format!("nape: {} has 3 mistakes\n", file.name()));

    let ended = run(&["check", "--json", file.name()]);
    assert_eq!(ended.code, Some(8), "{ended:?}");
    let said: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&said["is_good"], said["mistakes"].as_array().unwrap().len()), (&json!(false), 3));
    let methods = json!({"line": 10, "column": 11, "key": "apis.thumbs.methods", "found": "7",
        "expected": "an array of names, or a table", "nearest": null});
    assert_eq!(said["mistakes"][2], methods);
    assert_eq!(said["mistakes"][1]["nearest"], "shm");
}

#[test]
fn what_is_no_toml_or_no_file_is_told_apart() {
    let file = File::new("[links\n");
    let ended = run(&["check", file.name()]);
    assert_eq!((ended.code, ended.out.lines().count()), (Some(8), 1), "{ended:?}");
    assert!(ended.out.contains(":1:") && ended.out.contains("what is no TOML"), "{ended:?}");
    assert_eq!(ended.err, format!("nape: {} has a mistake\n", file.name()));

    let missing = spare_path("toml");
    let ended = run(&["check", missing.to_str().unwrap()]);
    assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains(missing.to_str().unwrap()) && ended.err.contains("No such file"), "{ended:?}");
}
