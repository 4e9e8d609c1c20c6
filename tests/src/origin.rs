//! Applications behind the proxies. They report exactly what reached them.

mod echo;
mod fickle;
mod names;
mod tcp;
mod tls;

pub use echo::{Origin, Seen};
pub use fickle::{Fickle, Mood};
pub use names::NameServer;
pub use tcp::{FAREWELL, RESET, TcpOrigin};
pub use tls::{Greeting, TlsFront};
