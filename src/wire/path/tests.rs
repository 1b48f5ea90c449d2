//! The rules for paths against a naive reading of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Texts around every rule: dots, white space, controls, and letters of one to four bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-cA-Z0-9_.]{0,9}",
        4 => "[a.\u{7f}\u{85}\u{a0}é\u{2028}\u{3000}\u{1F600} \t\n-]{0,6}",
        1 => ".{0,20}",
        1 => (0usize..3, "[aé]").prop_map(|(over, c)| c.repeat(254 + over)),
    ]
}

fn path() -> impl Strategy<Value = String> {
    "[a-cé]{1,2}(\\.[a-cé]{1,2}){0,4}"
}

/// The rules, one after the other and with no eye to speed.
fn allowed(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && text.split('.').all(|segment| !segment.is_empty())
}

fn segments(path: &str) -> Vec<&str> {
    path.split('.').filter(|segment| !segment.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_rules_are_those_of_the_reference(text in text()) {
        match Path::new(&text) {
            Ok(path) => prop_assert!(allowed(&text) && path == *text && path.as_str() == text),
            Err(_) => prop_assert!(!allowed(&text)),
        }
    }

    #[test]
    fn an_error_names_a_rule_that_was_broken(text in text()) {
        match Path::check(&text) {
            Ok(()) => prop_assert!(allowed(&text)),
            Err(PathError::Empty) => prop_assert!(text.is_empty()),
            Err(PathError::TooLong(len)) => prop_assert!(len == text.len() && len > 255),
            Err(PathError::EmptySegment) => prop_assert!(text.split('.').any(str::is_empty)),
            Err(PathError::BadCharacter(c)) => prop_assert!(text.contains(c)),
            Err(PathError::NotUtf8) => prop_assert!(false, "a text is UTF-8"),
        }
    }

    #[test]
    fn joining_is_a_dot_between(left in path(), right in text()) {
        let joined = Path::new(&left).unwrap().join(&right);
        match right.as_str() {
            "" => prop_assert_eq!(joined.unwrap().to_string(), left.clone()),
            _ => prop_assert_eq!(joined.ok(), Path::new(&format!("{left}.{right}")).ok()),
        }
        let below_the_root = if right.is_empty() { Some(Path::root()) } else { Path::new(&right).ok() };
        prop_assert_eq!(Path::root().join(&right).ok(), below_the_root);
    }

    #[test]
    fn a_path_contains_what_begins_with_its_segments(left in path(), right in path()) {
        let begins = segments(&right).starts_with(&segments(&left));
        prop_assert_eq!(Path::new(&left).unwrap().contains(&right), begins);
        prop_assert!(Path::root().contains(&right));
    }

    #[test]
    fn parents_lose_a_segment_each(path in path()) {
        let all = segments(&path);
        let expected: Vec<String> = (0..all.len()).rev().map(|n| all[..n].join(".")).collect();
        prop_assert_eq!(parents(&path).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn parents_of_anything_end_at_the_root(text in ".{0,20}") {
        prop_assert_eq!(parents(&text).last().unwrap_or(""), "");
        prop_assert!(parents(&text).count() <= text.len());
    }
}

#[test]
fn parents_go_from_the_nearest_to_the_root() {
    assert_eq!(parents("a.b.c").collect::<Vec<_>>(), ["a.b", "a", ""]);
    assert_eq!(parents("a").collect::<Vec<_>>(), [""]);
    assert_eq!(parents("").count(), 0);
}

#[test]
fn a_long_path_is_refused_at_256_bytes() {
    assert!(Path::new(&"x".repeat(255)).is_ok());
    assert_eq!(Path::new(&"x".repeat(256)), Err(PathError::TooLong(256)));
    assert_eq!(Path::new(&"é".repeat(128)), Err(PathError::TooLong(256)));
}

#[test]
fn a_path_contains_no_longer_name_of_its_sibling() {
    let thumbs = Path::new("thumbs").unwrap();
    assert!(thumbs.contains("thumbs") && thumbs.contains("thumbs.make"));
    assert!(!thumbs.contains("thumbsup") && !thumbs.contains("thumb"));
}

#[test]
fn a_path_is_found_by_its_text() {
    let map = HashMap::from([(Path::new("a.b").unwrap(), 1)]);
    assert_eq!(map.get("a.b"), Some(&1));
}

#[test]
fn the_root_is_shown_in_words() {
    assert_eq!(Path::root().to_string(), "(root)");
    assert!(Path::root().is_root());
    assert_eq!(Path::new("a.b").unwrap().to_string(), "a.b");
}

#[test]
fn d_29_bytes_that_are_no_path_are_refused_each_time() {
    let mut recent = RecentPaths::default();
    for _ in 0..2 {
        assert_eq!(recent.path(b""), Err(PathError::Empty));
        assert_eq!(recent.path(&[b'a', 0xff]), Err(PathError::NotUtf8));
        assert_eq!(recent.path(b"a\0b"), Err(PathError::BadCharacter('\0')));
        assert_eq!(recent.path(b"a..b"), Err(PathError::EmptySegment));
        assert_eq!(recent.path(&[b'x'; 255]).map(|_| ()), Ok(()));
        assert_eq!(recent.path(&[b'x'; 256]), Err(PathError::TooLong(256)));
    }
}

#[test]
fn paths_that_share_a_place_are_told_apart() {
    let mut recent = RecentPaths::default();
    for text in ["ab.c", "xb.c", "ab.c", "ac", "ab.c.dd.eeeeeeeeeeee"].repeat(2) {
        assert_eq!(recent.path(text.as_bytes()).unwrap().as_str(), text);
    }
    let [first, second] = [(); 2].map(|()| recent.path(b"ab.c").unwrap());
    assert!(Arc::ptr_eq(&first.0, &second.0), "it was copied anew");
}
