//! Prints the API's description: `cargo run -p decores-http --example openapi > docs/openapi.json`.

fn main() {
    println!("{}", decores_http::openapi::document());
}
