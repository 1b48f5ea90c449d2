//! `nape ls` and `nape describe`: what is served.

use std::{
    collections::{BTreeMap, HashSet},
    mem::{Discriminant, discriminant},
};

use nape::inspect::{PathInfo, PathKind};

use crate::{
    args,
    link::Met,
    output::{Look, Out},
    trouble::{Exit, Trouble},
};

/// What stands at a name, and the names below it.
#[derive(Default)]
struct Node<'a> {
    here: Vec<&'a PathInfo>,
    below: BTreeMap<&'a str, Node<'a>>,
}

pub(crate) fn list(met: &Met, args: &args::Ls, out: &mut Out) -> Result<(), Trouble> {
    let mut all: Vec<PathInfo> = met.ask("list")?;
    // A program may answer anything, and what hangs in the tree is as deep as its path is long.
    let odd = all.extract_if(.., |info| !is_path(&info.path)).count();
    if odd > 0 {
        eprintln!("nape: {odd} of what {} lists is left out, since its path is none", met.address);
    }
    if let Some(prefix) = &args.prefix {
        all.retain(|info| is_at_or_below(&info.path, prefix));
        if all.is_empty() {
            let text = format!("{} serves nothing at or below {prefix}", met.address);
            return Err(Trouble::new(Exit::Refused, text));
        }
    }
    if args.json {
        return out.json(&all);
    }
    let mut shown = HashSet::new();
    for of_link in all.chunk_by(|one, other| one.link == other.link) {
        // Peers of one listener have the same: once is enough.
        let new: Vec<&PathInfo> = of_link.iter().filter(|info| !shown.contains(&alike(info))).collect();
        let Some(first) = new.first() else { continue };
        if !first.link.is_empty() {
            out.line(&[(Look::Aside, "on the link "), (Look::Name, &first.link)])?;
        }
        tree(&new, out)?;
        shown.extend(new.into_iter().map(alike));
    }
    Ok(())
}

pub(crate) fn describe(met: &Met, args: &args::Describe, out: &mut Out) -> Result<(), Trouble> {
    let answer = met.endpoint().api("nape").action("describe", args.path.clone()).call::<PathInfo>();
    let info = answer.map_err(|error| {
        let is_unheard_of = matches!(error, nape::CallError::Fault(_));
        met.trouble(&error, if is_unheard_of { &args.path } else { "nape.describe" })
    })?;
    if args.json {
        return out.json(&info);
    }
    out.line(&[(Look::Name, &info.path)])?;
    let mut tell = |what: &str, text: &str| -> Result<(), Trouble> {
        let what = format!("  {what:<11}");
        if text.is_empty() { Ok(()) } else { out.line(&[(Look::Aside, &what), (Look::Plain, text)]) }
    };
    tell("link", &info.link)?;
    tell("kind", in_words(info.kind))?;
    tell("owner", &info.owner)?;
    tell("signature", &info.signature)?;
    for argument in &info.arguments {
        tell("argument", &format!("{}: {}", argument.name, argument.type_name))?;
    }
    tell("shape", &info.shape)?;
    for line in info.doc.lines() {
        let margin = if line.is_empty() { "" } else { "  " };
        out.line(&[(Look::Plain, margin), (Look::Plain, line)])?;
    }
    Ok(())
}

/// The names of the links, in the order in which they come.
/// Equal for the same on two links.
fn alike(info: &PathInfo) -> (&str, Discriminant<PathKind>, &str, &str, &str) {
    (&info.path, discriminant(&info.kind), &info.signature, &info.doc, &info.shape)
}

fn tree(all: &[&PathInfo], out: &mut Out) -> Result<(), Trouble> {
    let mut root = Node::default();
    for info in all {
        let names = info.path.split('.').filter(|name| !name.is_empty());
        let node = names.fold(&mut root, |node, name| node.below.entry(name).or_default());
        node.here.push(info);
    }
    for info in &root.here {
        line("", "(root)", 6, Some(info), out)?;
    }
    branches(&root, "", out)
}

fn branches(node: &Node<'_>, indent: &str, out: &mut Out) -> Result<(), Trouble> {
    let width = node.below.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, child) in &node.below {
        if child.here.is_empty() {
            line(indent, name, width, None, out)?;
        }
        for info in &child.here {
            line(indent, name, width, Some(info), out)?;
        }
        branches(child, &format!("{indent}  "), out)?;
    }
    Ok(())
}

/// A name, what it is, and below it what its doc comment begins with.
fn line(
    indent: &str,
    name: &str,
    width: usize,
    info: Option<&PathInfo>,
    out: &mut Out,
) -> Result<(), Trouble> {
    let Some(info) = info else {
        return out.line(&[(Look::Plain, indent), (Look::Name, name)]);
    };
    let gap = " ".repeat(width + 2 - name.chars().count().min(width));
    // A signature says of what kind it is.
    let told = if info.signature.is_empty() { in_words(info.kind) } else { &info.signature };
    let what = [(Look::Plain, indent), (Look::Name, name), (Look::Plain, &*gap), (Look::Plain, told)];
    out.line(&what)?;
    let margin = " ".repeat(indent.len() + width + 2);
    for text in info.doc.lines().take_while(|text| !text.trim().is_empty()) {
        out.line(&[(Look::Plain, &margin), (Look::Aside, text.trim())])?;
    }
    Ok(())
}

fn in_words(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Call => "call",
        PathKind::Event => "event",
        PathKind::Stream => "stream",
        PathKind::Upload => "upload",
        PathKind::Duplex => "duplex",
        PathKind::Topic => "topic",
        PathKind::CatchAll => "catch-all",
        _ => "other",
    }
}

/// Whether anything can be served there; at the root, something that takes all else can.
fn is_path(path: &str) -> bool {
    path.is_empty() || nape::Path::new(path).is_ok()
}

/// Whether a path is this node or below it; everything is below the root.
pub(crate) fn is_at_or_below(path: &str, node: &str) -> bool {
    let rest = path.strip_prefix(node);
    node.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
