//! Operators as spans.

/// Runs `$body` as one operator span; its error is passed on after the span is closed.
macro_rules! operator {
    ($observer:ident, $on:ident, $module:ident, $operator:expr, $body:expr) => {{
        if $on {
            $observer.begin(Span::Operator(Module::$module, $operator));
        }
        let result = $body;
        if $on {
            $observer.end();
        }
        result
    }};
}
