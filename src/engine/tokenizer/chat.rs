//! The two chat formats that single-turn prompts are put into.
//!
//! Templates are Jinja programs; this module does not run them but recognises which format one writes.

/// A recognised chat format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChatFormat {
    /// `<|im_start|>role … <|im_end|>`, with the system text that the template supplies when there is no system message.
    ChatMl {
        /// The default system text.
        system: Option<String>,
    },
    /// `<|start_header_id|>role<|end_header_id|> … <|eot_id|>`.
    Llama3,
}

impl ChatFormat {
    /// The format that `template` writes, if it is one of the known.
    pub(super) fn recognise(template: &str) -> Option<Self> {
        if template.contains("<|im_start|>") && template.contains("<|im_end|>") {
            Some(Self::ChatMl { system: default_system(template) })
        } else if template.contains("<|start_header_id|>") && template.contains("<|eot_id|>") {
            Some(Self::Llama3)
        } else {
            None
        }
    }
    /// One user turn with the assistant's turn opened. BOS is left to the tokenizer.
    pub(super) fn user_turn(&self, text: &str) -> String {
        match self {
            Self::ChatMl { system } => {
                let system =
                    system.as_ref().map_or(String::new(), |system| format!("<|im_start|>system\n{system}<|im_end|>\n"));
                format!("{system}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
            }
            Self::Llama3 => format!(
                "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        }
    }
}

/// The system text that the template writes as one literal, e.g. `'<|im_start|>system\nYou are …<|im_end|>\n'`.
fn default_system(template: &str) -> Option<String> {
    const OPENING: &str = "<|im_start|>system";
    template.match_indices(OPENING).find_map(|(at, _)| {
        let rest = &template[at + OPENING.len()..];
        let rest = rest.strip_prefix("\\n").or_else(|| rest.strip_prefix('\n'))?;
        let text = &rest[..rest.find("<|im_end|>")?];
        // A quote before the end means that the literal stops and a variable follows.
        (!text.is_empty() && !text.contains(['\'', '"', '{'])).then(|| text.replace("\\n", "\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatml_supplies_the_templates_own_system_text() {
        let template = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";
        let format = ChatFormat::recognise(template).unwrap();
        assert_eq!(
            format.user_turn("Hi"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let without = "{{'<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n'}}";
        assert_eq!(ChatFormat::recognise(without), Some(ChatFormat::ChatMl { system: None }));
    }

    #[test]
    fn unknown_formats_are_left_alone() {
        assert_eq!(ChatFormat::recognise("{{ '[INST] ' + message['content'] }}"), None);
    }
}
