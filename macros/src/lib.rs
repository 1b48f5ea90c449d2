//! The attribute `nape::api`, which makes a trait what two programs share: one serves it, one calls it.
//!
//! Three steps, in one direction: `parse` reads what stands there, `check` says what is wrong with it, all
//! at once, and `expand` writes the code. What generated code calls is `nape::__private`.

mod check;
mod expand;
mod parse;
mod streams;
mod text;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::ToTokens;

/// Makes a trait an API that two programs share.
///
/// The trait gets a method `into_api`, and beside it stands a client: `ThumbsClient` for `Thumbs`. The guide
/// of the crate `nape` tells what may stand in the trait, and what each of its attributes means.
///
/// ```ignore
/// #[nape::api("thumbs", timeout = "10s", workers = 2)]
/// pub trait Thumbs {
///     fn make(&self, path: PathBuf, size: u32) -> Result<Thumb, ThumbError>;
///     #[event]
///     fn quality(&self, percent: u8);
///     #[stream]
///     fn scan(&self, dir: PathBuf)
///     -> Result<impl Iterator<Item = Result<Entry, ScanError>> + Send + use<Self>, ScanError>;
///     fn add(&self, dir: PathBuf, entries: Incoming<Entry>) -> Result<u64, ScanError>;
///     #[nested]
///     fn cache(&self) -> impl Cache;
/// }
/// ```
#[proc_macro_attribute]
pub fn api(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let parsed = match parse::parse(arguments.into(), item.clone().into(), &mut mistakes) {
        Ok(parsed) => parsed,
        Err(error) => return [error.to_compile_error().into(), item].into_iter().collect(),
    };
    let checked = check::check(&parsed, &mut mistakes);
    expand::expand(&parsed, &checked, mistakes.0).into()
}

/// What is wrong with a trait: all of it is told at once.
#[derive(Default)]
struct Mistakes(Option<syn::Error>);

impl Mistakes {
    /// Something is wrong with these tokens. The text says what to write instead.
    fn add(&mut self, place: impl ToTokens, text: impl std::fmt::Display) {
        self.take(syn::Error::new_spanned(place, text));
    }

    fn take(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    /// How many there are.
    fn n(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// What a parser gives; `None` and a mistake when it fails.
    fn parse<T>(&mut self, parser: impl syn::parse::Parser<Output = T>, tokens: Tokens) -> Option<T> {
        parser.parse2(tokens).map_err(|error| self.take(error)).ok()
    }
}
