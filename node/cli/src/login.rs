//! `login`: learn who a node is, have it compared, pin it.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::table::Table;
use clap::Args;
use console::Term;
use decores_audit::trust::TrustedNode;
use decores_audit::{LogKey, Trust};
use decores_client::{ApiKey, NodeCard, NodeUrl, bootstrap, files};
use decores_types::KeyId;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Where the node is: https://HOST:PORT
    url: NodeUrl,
    /// The identity it must have, as its owner told you
    #[arg(long, value_name = "KEY_ID")]
    identity: Option<KeyId>,
    /// Your API key. Give `-`, which reads it from standard input: others on this machine can see arguments
    /// [default: DECORES_API_KEY, else asks]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Also write the trust file here
    #[arg(long, value_name = "FILE")]
    trust_out: Option<PathBuf>,
    /// Forget the identity that this URL had before
    #[arg(long, requires = "identity")]
    replace: bool,
}

impl Login {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let card = block_on(async { Ok(bootstrap(self.url.clone()).await?) })?;
        show(&card);
        let known = context.home.known_nodes()?.get(&self.url).copied();
        self.check_identity(&card, known)?;
        let trust = self.pin(context, &card, known)?;
        let key = self.api_key(context)?;
        let login = block_on(async { Ok(card.log_in(&key).await?) })?;
        let bytes = trust.to_bytes().map_err(Failure::usage)?;
        context.home.save_trust(&bytes)?;
        context.home.save_login(&login, &key)?;
        if let Some(path) = &self.trust_out {
            files::replace(path, files::ORDINARY, &bytes)?;
        }
        if context.json {
            output::json(&serde_json::json!({
                "url": login.url, "name": login.name, "identity": login.identity,
                "consumer": login.consumer, "trust": context.home.trust_path(),
            }))?;
        }
        output::note(format!("logged in as {}; pinned in {}", login.consumer, context.home.trust_path().display()));
        Ok(Exit::Done)
    }

    /// Refuses an identity that is not the told, the known or the confirmed one.
    fn check_identity(&self, card: &NodeCard, known: Option<KeyId>) -> Result<(), Failure> {
        let shown = card.statement().identity;
        if let Some(expected) = self.identity
            && expected != shown
        {
            let text = format!("the node at {} is {shown}, not {expected}", self.url);
            return Err(Failure::new(Exit::Refused, text)
                .hint("it is another node, or somebody is in between: send it nothing"));
        }
        if let Some(known) = known
            && known != shown
            && !self.replace
        {
            let text = format!("THE IDENTITY OF {} HAS CHANGED: it was {known}, it is now {shown}", self.url);
            return Err(Failure::new(Exit::Refused, text).hint(format!(
                "somebody may be in between. Ask the node's owner. If it was set up anew: \
                 decores login {} --identity KEY_ID --replace, with the id that the owner told you",
                self.url
            )));
        }
        if self.identity.is_some() || known == Some(shown) { Ok(()) } else { confirm() }
    }

    /// The trust file with this node in it.
    fn pin(&self, context: &Context, card: &NodeCard, known: Option<KeyId>) -> Result<Trust, Failure> {
        let mut trust = match context.home.trust()? {
            Some(bytes) => Trust::parse(&bytes).map_err(Failure::usage)?,
            None => Trust::default(),
        };
        let node = trusted(card)?;
        if let Some(pinned) = trust.node(&node.identity.id)
            && pinned.log != node.log
            && !self.replace
        {
            let text =
                format!("THE LOG OF {} HAS CHANGED: it was {}, it is now {}", self.url, pinned.log.key, node.log.key);
            return Err(Failure::new(Exit::Refused, text)
                .hint("a node that starts its log anew hides what stood in the old one; ask its owner"));
        }
        let replaced = |id: KeyId| id == node.identity.id || (self.replace && Some(id) == known);
        trust.nodes.retain(|n| !replaced(n.identity.id));
        let mut node = node;
        if trust.nodes.iter().any(|n| n.name == node.name) {
            node.name = format!("{} ({})", node.name, node.identity.id);
        }
        trust.nodes.push(node);
        let bytes = trust.to_bytes().map_err(Failure::usage)?;
        // What is written must be what is read.
        Trust::parse(&bytes).map_err(|e| Failure::new(Exit::Refused, e))
    }

    fn api_key(&self, context: &Context) -> Result<ApiKey, Failure> {
        match (self.api_key.as_deref(), &context.api_key) {
            (Some("-"), _) => {
                let mut text = String::new();
                let read = std::io::stdin().take(1024).read_to_string(&mut text);
                read.map_err(Failure::usage)?;
                Ok(ApiKey::parse(&text)?)
            }
            (Some(text), _) => Ok(ApiKey::parse(text)?),
            (None, Some(key)) => Ok(key.clone()),
            (None, None) => ask_api_key(),
        }
    }
}

fn trusted(card: &NodeCard) -> Result<TrustedNode, Failure> {
    let statement = card.statement();
    let refused = |text: String| Failure::new(Exit::Refused, text);
    let log = LogKey::parse(&statement.log_key).map_err(|e| Failure::new(Exit::Refused, e))?;
    if log.name() != statement.log_origin {
        return Err(refused(format!(
            "the node's log key is of `{}`, its log is `{}`",
            log.name(),
            statement.log_origin
        )));
    }
    let public =
        statement.identity_public.array().ok_or_else(|| refused("the node's identity has not 32 bytes".into()))?;
    Ok(TrustedNode::new(&statement.name, public, &log))
}

fn show(card: &NodeCard) {
    let statement = card.statement();
    let mut table = Table::new(&["node", &statement.name]);
    for (name, value) in [
        ("url", card.url().as_str()),
        ("identity", &statement.identity.to_string()),
        ("log origin", &statement.log_origin),
        ("log key", &statement.log_key),
    ] {
        table.row([name.into(), value.into()]);
    }
    output::note(table.render(false).trim_end());
}

/// A person compares the identity; without one, it is refused.
fn confirm() -> Result<(), Failure> {
    let hint = "get the identity from the node's owner and give it: --identity key_…";
    let terminal = Term::stderr();
    if !(terminal.is_term() && std::io::stdin().is_terminal()) {
        return Err(Failure::new(Exit::Refused, "nobody has compared this node's identity").hint(hint));
    }
    let ask = || -> std::io::Result<String> {
        terminal.write_str("Compare the identity with what the node's owner told you. Is it the same? [yes/no] ")?;
        terminal.read_line()
    };
    match ask().map_err(Failure::usage)?.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "the identity was not confirmed").hint(hint)),
    }
}

fn ask_api_key() -> Result<ApiKey, Failure> {
    let terminal = Term::stderr();
    if !(terminal.is_term() && std::io::stdin().is_terminal()) {
        return Err(Failure::usage("there is no API key")
            .hint("set DECORES_API_KEY, or give --api-key - and write it to standard input"));
    }
    terminal.write_str("API key: ").map_err(Failure::usage)?;
    let text = terminal.read_secure_line().map_err(Failure::usage)?;
    Ok(ApiKey::parse(&text)?)
}
