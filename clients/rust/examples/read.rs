//! Reads a day of bars, which the server fetches first if it does not have them.

use markethistory::{Client, Range, ReadOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".into());
    let client = Client::connect(&target)?;
    let day = Range::parse("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")?;
    let table = client.read_table("ohlcv:binance:BTC/USDT:1m", day, ReadOptions::default()).await?;
    println!("{} rows", table.num_rows());
    Ok(())
}
