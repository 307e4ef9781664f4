//! Who may do what.
//!
//! [`authenticate`] turns an API key's record into a [`Principal`]; [`Principal::permit`] and
//! [`Principal::permit_on`] turn that into a [`Permit`] for one [`Action`], which the acting function
//! demands. Neither type can be made anywhere else, so a call that was not checked does not compile.
//!
//! What is somebody else's does not exist for the caller: [`Refusal::NotFound`], never "forbidden".

mod api_key;
mod permit;
mod role;

pub use api_key::{ApiKeyRecord, ApiKeyText, BadApiKey, authenticate};
pub use permit::{Action, ActionType, Permit, Principal, Refusal, action};
pub use role::Role;
