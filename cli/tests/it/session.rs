//! A session in a terminal: a shell, the command, and what stands on the screen.

use crate::{
    canteen::CanteenClient,
    support::{Place, json, place, until},
    terminal::Terminal,
};

fn at(place: &Place) -> Terminal {
    Terminal::open(&[("ADDR", &place.address)])
}

/// With a 0 for each number, and one blank for several: what differs from run to run.
fn blurred(text: &str) -> String {
    let mut blurred = String::new();
    let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
    for line in text.lines() {
        for word in line.split_whitespace() {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(is_of_number);
            let is_unit = ["ns", "us", "ms", "s"].contains(&word);
            let word = if is_number { "0" } else { word };
            if !is_unit {
                blurred.push_str(word);
                blurred.push(' ');
            }
        }
        blurred.truncate(blurred.trim_end().len());
        blurred.push('\n');
    }
    blurred
}

#[test]
fn a_session_is_as_it_is_written_down() {
    let place = place();
    let mut terminal = at(&place);

    assert_eq!(
        terminal.run("nape ls $ADDR canteen"),
        "\
nape ls $ADDR canteen
canteen
  cook     fn cook(dish: &str, guests: u32) -> Result<String, Burnt>
           Cooks a dish for so many guests.
  courses  #[stream] fn courses(n: u32) -> impl Iterator<Item = Result<String, Fault>> + Send + use<Self>
           One course after the other.
  left     #[event] fn left(name: String)
           A guest has left."
    );
    assert!(terminal.has_colors());

    assert_eq!(
        terminal.run("nape describe $ADDR canteen.cook"),
        "\
nape describe $ADDR canteen.cook
canteen.cook
  kind       call
  owner      canteen
  signature  fn cook(dish: &str, guests: u32) -> Result<String, Burnt>
  argument   dish: &str
  argument   guests: u32
  shape      (text, u32) -> text
  Cooks a dish for so many guests.

  Toast is always burnt."
    );

    assert_eq!(
        terminal.run(r#"nape call $ADDR canteen.cook '"soup"' 4; echo $?"#),
        "\
nape call $ADDR canteen.cook '\"soup\"' 4; echo $?
\"soup for 4\"
0"
    );
    assert_eq!(
        terminal.run(r#"nape call $ADDR canteen.cook '"toast"' 1; echo $?"#),
        "\
nape call $ADDR canteen.cook '\"toast\"' 1; echo $?
nape: canteen.cook failed: the toast is burnt
5"
    );

    // One order is in the oven, and one waits.
    let oven = place.open.guests.api("oven");
    let bread = [600u64, 600].map(|seconds| oven.action("bake", seconds).start::<String>().unwrap());
    let stages = || {
        let links = json(&["inflight", &place.address, "--json"]);
        let handlers = links[1]["handlers"].as_array().unwrap().clone();
        handlers.iter().map(|it| it["stage"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("one bakes and one waits", || stages() == ["running", "queued"]);
    assert_eq!(
        blurred(&terminal.run("nape inflight $ADDR | cut -c 1-36")),
        "\
nape inflight $ADDR | cut -c 1-36
LINK PATH AGE STATE
guests oven.bake 0 running
guests oven.bake 0 queued
"
    );
    drop(bread);
}

#[test]
fn events_are_tailed_until_somebody_presses_control_c() {
    let place = place();
    let mut terminal = at(&place);
    terminal.enter("nape tail $ADDR canteen");
    let canteen = CanteenClient::on(&place.open.guests);
    until("two events are on the screen", || {
        canteen.left("anna".into()).fire().unwrap();
        terminal.look().matches("guests canteen.left \"anna\"").count() >= 2
    });
    terminal.press("\u{3}");
    terminal.end();
    let shown = terminal.run("echo $?");
    assert_eq!(shown, "echo $?\n130");
}

#[test]
fn the_live_table_shows_who_calls() {
    let place = place();
    let canteen = CanteenClient::on(&place.open.guests);
    (0..20).for_each(|n| drop(canteen.cook("soup", n).call().unwrap()));
    assert!(canteen.cook("toast", 1).call().is_err());
    let order = place.open.guests.api("oven").action("bake", 600u64).start::<String>().unwrap();
    let mut terminal = at(&place);
    terminal.enter("nape top $ADDR --interval 50ms");
    let cells = |shown: &str, path: &str| -> Vec<String> {
        let line = shown.lines().find(|line| line.contains(path)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    // In flight, waiting, and failed.
    let counts = |shown: &str, path: &str| cells(shown, path).split_off(7).join(" ");
    let shown = terminal.until("table with an order that is under way", |screen| {
        let text = screen.contents();
        screen.alternate_screen()
            && text.contains("q quits")
            && text.contains("oven.bake")
            && counts(&text, "oven.bake") == "1 0 0"
    });
    let table = blurred(&shown).replace(&place.address, "ADDR");
    assert_eq!(
        table.lines().take(4).collect::<Vec<_>>(),
        [
            "nape top ADDR 0 rows",
            "LINK PATH CALLS/S P50 P99 IN FLIGHT QUEUE FAULTS",
            "guests canteen.cook 0 0 0 0 0 0",
            "guests oven.bake 0 0 0 0 0 0",
        ]
    );
    assert_eq!(counts(&shown, "canteen.cook"), "0 0 1");
    assert!(terminal.has_colors());

    // It is live: calls that go on have a rate.
    let cooks = |screen: &vt100::Screen| cells(&screen.contents(), "canteen.cook")[2].clone();
    until("there is a rate", || {
        let _ = canteen.cook("soup", 1).call();
        terminal.look_at(|screen| cooks(screen) != "0.0")
    });
    terminal.press("s");
    terminal.until("another order", |screen| screen.contents().contains("now by p99"));
    terminal.press("q");
    assert_eq!(terminal.end(), "nape top $ADDR --interval 50ms");
    assert_eq!(terminal.run("echo $?"), "echo $?\n0");
    drop(order);
}

#[test]
fn the_live_table_goes_when_the_program_does() {
    let place = place();
    let mut terminal = at(&place);
    terminal.enter("nape top $ADDR --interval 50ms");
    terminal.until("table", |screen| screen.alternate_screen() && screen.contents().contains("q quits"));
    let address = place.address.clone();
    drop(place);
    let shown = terminal.end();
    assert!(shown.contains(&format!("the link to {address} is lost: closed by the other side")), "{shown}");
    assert_eq!(terminal.run("echo $?"), "echo $?\n7");
}

#[test]
fn colors_are_for_who_wants_them() {
    let place = place();
    let mut terminal = Terminal::open(&[("ADDR", &place.address), ("NO_COLOR", "1")]);
    terminal.run("nape ls $ADDR");
    assert!(!terminal.has_colors());
    terminal.run("nape ls --color always $ADDR");
    assert!(terminal.has_colors());
    let mut terminal = at(&place);
    terminal.run("nape ls $ADDR | cat");
    assert!(!terminal.has_colors());
}

#[test]
fn help_is_for_people() {
    let place = place();
    let mut terminal = at(&place);
    let shown = terminal.run("nape help call");
    assert!(shown.contains("Call a path with JSON") && shown.contains("--timeout"), "{shown}");
}
