//! Writes the code: the trait with a way into an API, and the client.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{FnArg, Pat, PathArguments, TraitItemFn};

use crate::{
    check::{Argument, Checked, Returned, Served, Timeout, Verb},
    parse::Parsed,
    streams::End,
};

/// With mistakes, everything still stands there that other code names, so that each mistake gives one
/// message; but nothing that could fail for the same reason again.
pub(crate) fn expand(parsed: &Parsed, checked: &Checked, mistakes: Option<syn::Error>) -> TokenStream {
    let library = parsed.options.library.as_ref().map_or(quote!(::nape), ToTokens::to_token_stream);
    let code = Code { parsed, checked, library, fails: mistakes.is_some() };
    let (the_trait, client) = (code.the_trait(), code.client());
    let mistakes = mistakes.map(|all| all.to_compile_error());
    quote!(#the_trait #client #mistakes)
}

struct Code<'a> {
    parsed: &'a Parsed,
    checked: &'a Checked,
    /// The path of the library.
    library: TokenStream,
    fails: bool,
}

impl Code<'_> {
    fn the_trait(&self) -> TokenStream {
        let item = &self.parsed.item;
        let (attributes, vis, unsafety, name) = (&item.attrs, &item.vis, &item.unsafety, &item.ident);
        let (generics, clause) = (&item.generics, &item.generics.where_clause);
        let supertraits = item.supertraits.iter();
        let methods = self.parsed.methods.iter().map(|method| as_it_may_stand(&method.item));
        let others = &self.parsed.others;
        let into_api = self.unless_there("into_api", self.make_api());
        let serve = self.unless_there("__nape_serve", self.serve());
        quote! {
            #(#attributes)*
            #[allow(dead_code, async_fn_in_trait)]
            #vis #unsafety trait #name #generics:
                #(#supertraits +)* ::core::marker::Send + ::core::marker::Sync + 'static #clause
            {
                #(#others)*
                #(#methods)*
                /// Makes an API of it, to be served by either side.
                #[must_use = "an API does nothing until it is served"]
                #into_api
                #[doc(hidden)]
                #[allow(unused_variables, deprecated)]
                #serve
            }
        }
    }

    /// Nothing where the user has a method of that name, which is a mistake.
    fn unless_there(&self, name: &str, code: TokenStream) -> TokenStream {
        let there = self.parsed.methods.iter().any(|method| method.item.sig.ident == name);
        if there {
            quote!(
                fn __nape_unused(&self) {}
            )
        } else {
            code
        }
    }

    fn make_api(&self) -> TokenStream {
        let (library, namespace) = (&self.library, &self.checked.namespace);
        let workers = self.parsed.options.workers.as_ref().map(|n| quote!(.workers(#n)));
        let inline = self.parsed.options.inline.as_ref().map(|_| quote!(.inline()));
        let body = self.unless_it_fails(quote! {
            let mut api = #library::Api::new(#namespace)#workers #inline;
            Self::__nape_serve(
                &#library::__private::Arc::new(self),
                &mut #library::__private::Serving::new(&mut api),
            );
            api
        });
        quote! {
            fn into_api(self) -> #library::Api where Self: ::core::marker::Sized { #body }
        }
    }

    fn serve(&self) -> TokenStream {
        let library = &self.library;
        let (this, serving) = (internal("this"), internal("serving"));
        let methods = self.checked.methods.iter().map(|method| self.serve_one(method, &this, &serving));
        let body = self.unless_it_fails(quote!(#(#methods)*));
        quote! {
            fn __nape_serve(
                #this: &#library::__private::Arc<Self>,
                #serving: &mut #library::__private::Serving<'_>,
            ) where Self: ::core::marker::Sized { #body }
        }
    }

    fn unless_it_fails(&self, code: TokenStream) -> TokenStream {
        if self.fails { quote!(::core::panic!("it does not compile")) } else { code }
    }

    fn serve_one(&self, method: &Served, this: &Ident, serving: &Ident) -> TokenStream {
        let library = &self.library;
        let (api, name, path) = (&self.parsed.item.ident, &method.name, &method.path);
        let conditions = method.conditions();
        let result = match &method.verb {
            Verb::Nested { api: child } => {
                return quote! {
                    #(#conditions)*
                    #child::__nape_serve(
                        &#library::__private::Arc::new(<Self as #api>::#name(#this)),
                        &mut #serving.nested(#path),
                    );
                };
            }
            Verb::Topic { .. } => {
                let about = self.about(method);
                return quote_spanned! {method.name.span().resolved_at(Span::mixed_site())=>
                    #(#conditions)*
                    #serving.topic(#about, &<Self as #api>::#name(#this));
                };
            }
            Verb::Call { result } | Verb::Event { result } => Ok(result),
            Verb::Stream { result, .. } | Verb::Upload { result } | Verb::Duplex { result } => Ok(result),
            Verb::Deferred { answer } => Err(answer),
        };
        let serve = match &method.verb {
            Verb::Stream { .. } => "stream",
            Verb::Upload { .. } => "upload",
            Verb::Duplex { .. } => "duplex",
            _ => "method",
        };
        // Types that cannot travel are found here: at the method of the user.
        let span = method.name.span().resolved_at(Span::mixed_site());
        let serve = Ident::new(serve, span);
        let ends = [(&method.items.incoming, quote!(Incoming)), (&method.items.outgoing, quote!(Outgoing))];
        let ends: Vec<_> = ends
            .iter()
            .filter_map(|(end, half)| {
                let end = end.as_ref()?;
                let (name, kind) = (&end.argument.name, &end.kind);
                Some((name, quote!(#name: #library::#half<#kind>)))
            })
            .collect();
        let (end_names, end_arguments): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let about = self.about(method);
        let cx = internal("cx");
        // One that answers later has a context of its own.
        let context = if result.is_ok() { quote!(#cx,) } else { quote!(&#cx,) };
        let context = method.takes_context.then_some(context);
        let passed =
            method.arguments.iter().map(|Argument { name, kind, by_reference }| match by_reference {
                true => quote!(::core::borrow::Borrow::<#kind>::borrow(&#name)),
                false => quote!(#name),
            });
        let passed = passed.chain(result.err().map(|answer| answer.name.to_token_stream()));
        let called = quote!(<Self as #api>::#name(&#this, #context #(#passed,)* #(#end_names),*));
        let names: Vec<_> = method.arguments.iter().map(|argument| &argument.name).collect();
        let (pattern, kind) = (together(&names), self.travels(method));
        let served = match result {
            Ok(result) => {
                let outcome = match result {
                    // Its value does not travel as a whole.
                    Returned::Fallible(..) if matches!(method.verb, Verb::Stream { .. }) => called,
                    Returned::Plain(_) => quote!(#library::__private::value(#called)),
                    Returned::Fallible(_, Some(_)) => called,
                    Returned::Fallible(_, None) => quote!(#library::__private::Outcome::into_result(#called)),
                };
                quote_spanned! {span=>
                    #serve(
                        #about,
                        move |#cx: &#library::Context, #pattern: #kind, #(#end_arguments),*| #outcome,
                    )
                }
            }
            Err(Argument { name: answer, kind: value, .. }) => quote_spanned! {span=>
                deferred(
                    #about,
                    move |#cx: #library::Context, #pattern: #kind, #answer: #library::Responder<#value>| #called,
                )
            },
        };
        quote_spanned! {span=>
            #(#conditions)*
            {
                let #this = ::core::clone::Clone::clone(#this);
                #serving.#served;
            }
        }
    }

    fn about(&self, method: &Served) -> TokenStream {
        let library = &self.library;
        let Served { path, signature, doc, .. } = method;
        let values = method.arguments.len();
        let arguments = method.arguments.iter().chain(method.items.arguments()).map(|argument| {
            let (name, kind) = (syn::ext::IdentExt::unraw(&argument.name).to_string(), argument.type_name());
            quote!((#name, #kind))
        });
        quote! {
            &#library::__private::About {
                path: #path,
                signature: #signature,
                arguments: &[#(#arguments),*],
                values: #values,
                doc: #doc,
            }
        }
    }

    fn client(&self) -> TokenStream {
        let library = &self.library;
        let (vis, api, namespace) = (&self.parsed.item.vis, &self.parsed.item.ident, &self.checked.namespace);
        let name = format_ident!("{api}Client");
        let timeout = self.checked.timeout.map(|timeout| self.timeout(timeout));
        let methods = self.checked.methods.iter().map(|method| self.client_method(method));
        let doc = format!("Calls [`{api}`] at the other side. Cheap to clone.");
        quote! {
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #[allow(dead_code)]
            #vis struct #name {
                api: #library::ApiHandle,
            }

            #[allow(dead_code, clippy::too_many_arguments)]
            impl #name {
                /// Calls what the other side of this endpoint serves: of a `Head`, a `Neck`, or the
                /// endpoint of a context.
                #vis fn on(endpoint: &#library::Endpoint) -> Self {
                    Self::__nape_below(endpoint.api(#namespace))
                }

                /// Calls what is served at the path of this handle, with its timeout.
                #vis fn over(api: #library::ApiHandle) -> Self {
                    Self { api }
                }

                #[doc(hidden)]
                #vis fn __nape_below(api: #library::ApiHandle) -> Self {
                    Self::over(api #timeout)
                }

                #(#methods)*
            }
        }
    }

    fn client_method(&self, method: &Served) -> TokenStream {
        let library = &self.library;
        let (name, path, vis) = (&method.name, &method.path, &self.parsed.item.vis);
        let (shared, doc) = (&method.shared, method.client_doc());
        let taken = method.arguments.iter().map(|Argument { name, kind, by_reference }| match by_reference {
            true => quote!(#name: &#kind),
            false => quote!(#name: #kind),
        });
        let sent: Vec<_> = method
            .arguments
            .iter()
            .map(|Argument { name, by_reference, .. }| match by_reference {
                true => quote!(#library::__private::ToOwned::to_owned(#name)),
                false => quote!(#name),
            })
            .collect();
        let (sent, kind) = (together(&sent), self.travels(method));
        let timeout = method.timeout.map(|timeout| self.timeout(timeout));
        let (result, begin) = match &method.verb {
            Verb::Event { .. } => (quote!(#library::TypedEvent<#kind>), quote!(event)),
            Verb::Call { result } => {
                let value = self.value(result);
                (quote!(#library::TypedAction<#kind, #value>), quote!(action))
            }
            Verb::Stream { item, .. } => {
                let item = self.value(item);
                (quote!(#library::TypedStream<#kind, #item>), quote!(stream))
            }
            Verb::Upload { result } => {
                let (items, value) = (item_of(&method.items.incoming), self.value(result));
                (quote!(#library::TypedUpload<#kind, #items, #value>), quote!(upload))
            }
            Verb::Duplex { result } => {
                let (go, come) = (item_of(&method.items.incoming), item_of(&method.items.outgoing));
                let value = self.value(result);
                (quote!(#library::TypedDuplex<#kind, #go, #come, #value>), quote!(duplex))
            }
            Verb::Deferred { answer: Argument { kind: value, .. } } => {
                (quote!(#library::TypedAction<#kind, #value>), quote!(action))
            }
            Verb::Topic { item } => {
                return quote! {
                    #(#shared)*
                    #[doc = #doc]
                    #vis fn #name(&self) -> #library::TypedTopic<#item> {
                        #library::__private::topic(&self.api, #path)#timeout
                    }
                };
            }
            Verb::Nested { api } => {
                let client = client_of(api);
                return quote! {
                    #(#shared)*
                    #[doc = #doc]
                    #vis fn #name(&self) -> #client {
                        #client::__nape_below(self.api.api(#path))
                    }
                };
            }
        };
        quote! {
            #(#shared)*
            #[doc = #doc]
            #vis fn #name(&self, #(#taken),*) -> #result {
                static METHOD: #library::__private::Method = #library::__private::Method::new();
                #library::__private::#begin(&self.api, #path, #sent, &METHOD)#timeout
            }
        }
    }

    /// What comes back.
    fn value(&self, result: &Returned) -> TokenStream {
        let library = &self.library;
        match result {
            Returned::Plain(value) => value.clone(),
            Returned::Fallible(_, Some([value, _])) => value.clone(),
            Returned::Fallible(result, None) => {
                quote!(<#result as #library::__private::Outcome>::Value)
            }
        }
    }

    /// The type of the arguments on their way: nothing, the one, or a tuple.
    fn travels(&self, method: &Served) -> TokenStream {
        let library = &self.library;
        let kinds: Vec<_> = method
            .arguments
            .iter()
            .map(|argument| {
                let kind = &argument.kind;
                match argument.by_reference {
                    true => quote_spanned!(argument.span()=> <#kind as #library::__private::ToOwned>::Owned),
                    false => quote!(#kind),
                }
            })
            .collect();
        together(&kinds)
    }

    fn timeout(&self, timeout: Timeout) -> TokenStream {
        let library = &self.library;
        match timeout {
            Timeout::Micros(micros) => quote!(.timeout(::core::time::Duration::from_micros(#micros))),
            Timeout::Never => quote!(.timeout(#library::Timeout::Never)),
        }
    }
}

impl Served {
    /// The conditions under which it is there.
    fn conditions(&self) -> impl Iterator<Item = &syn::Attribute> {
        self.shared.iter().filter(|attribute| attribute.path().is_ident("cfg"))
    }

    /// What the client says of it.
    fn client_doc(&self) -> String {
        let doc = if self.doc.is_empty() { format!("Calls `{}`.", self.path) } else { self.doc.clone() };
        match &self.verb {
            Verb::Call { result: Returned::Fallible(_, Some([_, error])) }
            | Verb::Upload { result: Returned::Fallible(_, Some([_, error])) }
            | Verb::Duplex { result: Returned::Fallible(_, Some([_, error])) }
            | Verb::Stream { item: Returned::Fallible(_, Some([_, error])), .. } => {
                let error = crate::text::of(error.clone());
                format!("{doc}\n\nAn error of its own arrives as a fault that holds a `{error}`.")
            }
            _ => doc,
        }
    }
}

/// The method without what the compiler would refuse for a second time.
fn as_it_may_stand(item: &TraitItemFn) -> TraitItemFn {
    let mut item = item.clone();
    item.sig.variadic = None;
    item.sig.constness = None;
    for (index, argument) in item.sig.inputs.iter_mut().enumerate() {
        if let FnArg::Typed(argument) = argument {
            argument.attrs.clear();
            if crate::streams::lacks_items(&argument.ty) {
                *argument.ty = syn::parse_quote!(());
            }
            if !matches!(&*argument.pat, Pat::Ident(pat) if pat.by_ref.is_none() && pat.mutability.is_none())
            {
                let name = format_ident!("_{index}");
                *argument.pat = syn::parse_quote!(#name);
            }
        }
    }
    item
}

/// The type of the items of one end of a stream.
fn item_of(end: &Option<End>) -> TokenStream {
    end.as_ref().map_or_else(|| quote!(()), |end| end.kind.to_token_stream())
}

/// The client of a trait stands beside it.
fn client_of(api: &syn::Path) -> syn::Path {
    let mut client = api.clone();
    if let Some(last) = client.segments.last_mut() {
        last.ident = format_ident!("{}Client", last.ident);
        last.arguments = PathArguments::None;
    }
    client
}

/// Several as a tuple, one as itself.
fn together(parts: &[impl ToTokens]) -> TokenStream {
    match parts {
        [one] => one.to_token_stream(),
        parts => quote!((#(#parts),*)),
    }
}

/// A name that no name of the user can meet.
fn internal(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
