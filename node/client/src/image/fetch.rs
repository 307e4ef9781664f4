//! From a reference to an image.

use super::archive::Archive;
use super::layout::{self, Store};
use super::registry::{self, RegistryAccess};
use super::{Image, ImageError, Platform, Reference, docker};
use crate::ClientError;
use std::path::PathBuf;

/// How images are fetched.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// What they must be built for.
    pub platform: Platform,
    /// How registries are spoken to.
    pub registries: RegistryAccess,
    /// A folder for what a registry sends; nothing stays in it.
    pub scratch: PathBuf,
}

impl Fetch {
    /// Finds and checks an image; tells `read` of every piece that was fetched or read.
    ///
    /// # Errors
    /// If there is none, if several could be meant, or if anything in it is not what its digest says.
    pub async fn image(
        &self,
        reference: &Reference,
        read: impl FnMut(u64) + Send + 'static,
    ) -> Result<Image, ClientError> {
        let checked = self.checked(reference, read).await;
        checked.map_err(|source| ClientError::Image { image: reference.to_string(), source })
    }

    async fn checked(
        &self,
        reference: &Reference,
        mut read: impl FnMut(u64) + Send + 'static,
    ) -> Result<Image, ImageError> {
        let (platform, name) = (self.platform.clone(), reference.to_string());
        match reference.clone() {
            Reference::Layout(folder, pick) => {
                let work = move || {
                    if !folder.is_dir() {
                        return Err(ImageError::Unfit(format!("{} is no folder", folder.display())));
                    }
                    let store = Store::Folder(folder);
                    let descriptor = layout::choose(&store, &pick, &platform)?;
                    layout::image(&store, &descriptor, &platform, &name, &mut read)
                };
                blocking(work).await
            }
            Reference::Archive(file, pick) => {
                let work = move || {
                    let store = Store::Archive(Archive::open(&file)?);
                    let descriptor = layout::choose(&store, &pick, &platform)?;
                    layout::image(&store, &descriptor, &platform, &name, &mut read)
                };
                blocking(work).await
            }
            Reference::Docker(file, tag) => {
                let work = move || docker::image(&Archive::open(&file)?, tag.as_deref(), &platform, &name, &mut read);
                blocking(work).await
            }
            Reference::Registry(wanted) => {
                let (descriptor, blobs) = registry::fetch(self, &wanted, &mut read).await?;
                let name = format!("docker://{}/{}@{}", wanted.host, wanted.name, descriptor.digest);
                let work = move || layout::image(&Store::Fetched(blobs), &descriptor, &platform, &name, &mut |_| {});
                blocking(work).await
            }
        }
    }
}

async fn blocking(work: impl FnOnce() -> Result<Image, ImageError> + Send + 'static) -> Result<Image, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::from(ClientError::Worker))?
}
