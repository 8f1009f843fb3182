//! Functionary 2: `<|recipient|>f\n<|content|>{…}<|stop|>`; what is for `all` is text.

use super::{Section, ToolFormat, standard};
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader};

pub(super) static FORMAT: ToolFormat = standard(
    "functionary-v2",
    &["<|from|>assistant\n<|recipient|>", "<|recipient|>"],
    &["<|stop|>"],
    read,
);

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { message(&reader).await })
}

async fn message(reader: &Reader) -> Read<()> {
    let (name, _) = reader.until(&["<|content|>"]).await?;
    if name.trim() == "all" {
        reader.end_raw();
        return Ok(());
    }
    reader.start_call(name.trim(), None);
    json_call::arguments(reader).await?;
    // The last call of an answer ends with it.
    let _ = reader.skip_space().await;
    reader.accept("<|stop|>").await;
    reader.end_call();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FORMAT;
    use crate::text::output::golden::check;

    #[test]
    fn golden_cases() {
        check(
            &FORMAT,
            &[(
                "<|recipient|>all\n<|content|>I look.\n<|from|>assistant\n<|recipient|>get_weather\n<|content|>{\"city\": \"Ulm\"}<|stop|>",
                r#""I look." get_weather{"city":"Ulm"}"#,
            )],
        );
    }
}
