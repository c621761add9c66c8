//! A model with one operator made slower on purpose, so that a study can be held against a slowdown whose place and size are known.

use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};

use super::CausalLm;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::instrument::observer::{Observer, Span};

/// Which operator, and by how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Slowdown {
    /// Name of the module whose operators are prolonged, e.g. `down_proj`.
    pub operator: String,
    /// Part of each call's own duration that is spent waiting after it; 0.3 makes a call take 1.3 times as long.
    pub part: f64,
}

impl Slowdown {
    /// Reads `OPERATOR:PART`, e.g. `down_proj:0.30`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (operator, part) = text.split_once(':').ok_or("expected `OPERATOR:PART`, e.g. `down_proj:0.30`")?;
        if operator.is_empty() {
            return Err("the name of the operator is missing, e.g. `down_proj:0.30`".to_owned());
        }
        match part.parse::<f64>() {
            Ok(part) if part > 0.0 && part <= 100.0 => Ok(Self { operator: operator.to_owned(), part }),
            _ => Err(format!("`{part}` is not a number above 0 and up to 100")),
        }
    }
}

/// Runs another model, and keeps the thread busy after each call of one operator.
///
/// It watches the spans of the model, so any operator that is announced can be slowed, and a model that is not wrapped pays nothing.
pub struct Slowed {
    model: Box<dyn CausalLm>,
    slowdown: Slowdown,
}

impl Slowed {
    /// `model` with `slowdown`.
    pub fn new(model: Box<dyn CausalLm>, slowdown: Slowdown) -> Self {
        Self { model, slowdown }
    }
}

/// Passes spans on to the run's own observer and prolongs those that are to be slow.
struct Prolonging<'a> {
    observer: &'a mut dyn Observer,
    slowdown: &'a Slowdown,
    /// Whether the run's observer wants operators; else they are asked for by this one alone.
    wanted: bool,
    /// When the operator to prolong began.
    began: Option<Instant>,
}

impl Observer for Prolonging<'_> {
    fn wants_operators(&self) -> bool {
        true
    }
    fn begin(&mut self, span: Span) {
        if self.wanted || matches!(span, Span::Phase(..)) {
            self.observer.begin(span);
        }
        if let Span::Operator(module, _) = span
            && module.name() == self.slowdown.operator
        {
            self.began = Some(Instant::now());
        }
    }
    fn end(&mut self) {
        if let Some(began) = self.began.take() {
            let until = began.elapsed().mul_f64(1.0 + self.slowdown.part).min(Duration::from_mins(1));
            while began.elapsed() < until {
                std::hint::spin_loop();
            }
        }
        // A model announces no phases, so what ends here was passed on exactly if operators are wanted.
        if self.wanted {
            self.observer.end();
        }
    }
}

impl CausalLm for Slowed {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let wanted = observer.wants_operators();
        let mut prolonging = Prolonging { observer, slowdown: &self.slowdown, wanted, began: None };
        self.model.forward(tokens, position, &mut prolonging)
    }
    fn reset(&mut self) -> Result<()> {
        self.model.reset()
    }
    fn architecture(&self) -> &Architecture {
        self.model.architecture()
    }
    fn kv_cache_bytes(&self) -> (u64, u64) {
        self.model.kv_cache_bytes()
    }
    fn kv_format(&self) -> Format {
        self.model.kv_format()
    }
    fn compute_format(&self) -> Format {
        self.model.compute_format()
    }
    fn is_instrumented(&self) -> bool {
        self.model.is_instrumented()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::estimate::operator::Operator;
    use crate::instrument::observer::{Module, NoObserver};

    /// Two operators of some two milliseconds each: how long their work took, and how long with what came before and after it.
    struct TwoOperators {
        architecture: Architecture,
        worked: [Duration; 2],
        took: [Duration; 2],
    }

    impl TwoOperators {
        fn new(architecture: Architecture) -> Self {
            Self { architecture, worked: [Duration::ZERO; 2], took: [Duration::ZERO; 2] }
        }
    }

    impl CausalLm for TwoOperators {
        fn forward(&mut self, _: &Tensor, _: usize, observer: &mut dyn Observer) -> Result<Tensor> {
            observer.begin(Span::Layer(0));
            for (index, module) in [Module::UpProj, Module::DownProj].into_iter().enumerate() {
                let start = Instant::now();
                observer.begin(Span::Operator(module, Operator::Add { rows: 1, width: 1 }));
                let work = Instant::now();
                while work.elapsed() < Duration::from_millis(2) {
                    std::hint::spin_loop();
                }
                self.worked[index] = work.elapsed();
                observer.end();
                self.took[index] = start.elapsed();
            }
            observer.end();
            Tensor::zeros((1, 1), candle_core::DType::F32, &Device::Cpu)
        }
        fn reset(&mut self) -> Result<()> {
            Ok(())
        }
        fn architecture(&self) -> &Architecture {
            &self.architecture
        }
        fn kv_cache_bytes(&self) -> (u64, u64) {
            (0, 0)
        }
        fn kv_format(&self) -> Format {
            Format::F32
        }
        fn compute_format(&self) -> Format {
            Format::F32
        }
        fn is_instrumented(&self) -> bool {
            true
        }
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Log {
        wants: bool,
        spans: Vec<Option<Span>>,
    }

    impl Observer for Log {
        fn wants_operators(&self) -> bool {
            self.wants
        }
        fn begin(&mut self, span: Span) {
            self.spans.push(Some(span));
        }
        fn end(&mut self) {
            self.spans.push(None);
        }
    }

    #[test]
    fn the_named_operator_takes_longer_by_its_part_and_the_observer_sees_what_it_asked_for() {
        let architecture = crate::estimate::test_models::llama_2_7b();
        let slowdown = Slowdown::parse("down_proj:1.5").unwrap();
        let tokens = Tensor::zeros((1, 1), candle_core::DType::U32, &Device::Cpu).unwrap();
        // The spans with and without the wrapper are the same.
        let mut plain = TwoOperators::new(architecture.clone());
        let mut truth = Log { wants: true, ..Log::default() };
        plain.forward(&tokens, 0, &mut truth).unwrap();
        let mut slowed = Slowed::new(Box::new(plain), slowdown.clone());
        let mut log = Log { wants: true, ..Log::default() };
        slowed.forward(&tokens, 0, &mut log).unwrap();
        assert_eq!(log.spans, truth.spans);
        let mut silent = Log::default();
        slowed.forward(&tokens, 0, &mut silent).unwrap();
        assert!(silent.spans.is_empty(), "nobody asked for operators: {:?}", silent.spans);

        // The waiting is inside the span: 2 ms become 5, whether spans are wanted or not. An upper bound would fail on a busy machine.
        let mut inner = TwoOperators::new(architecture);
        let mut wrapped = Prolonging { observer: &mut NoObserver, slowdown: &slowdown, wanted: false, began: None };
        inner.forward(&tokens, 0, &mut wrapped).unwrap();
        assert!(inner.worked[1] >= Duration::from_millis(2));
        assert!(inner.took[1] >= inner.worked[1].mul_f64(2.5), "{:?} of {:?}", inner.took, inner.worked);
    }

    #[test]
    fn a_malformed_slowdown_is_refused() {
        for text in
            ["", "down_proj", ":0.3", "down_proj:", "down_proj:0", "down_proj:-1", "down_proj:NaN", "down_proj:inf"]
        {
            assert!(Slowdown::parse(text).is_err(), "{text}");
        }
        let slowdown = Slowdown { operator: "down_proj".to_owned(), part: 0.3 };
        assert_eq!(Slowdown::parse("down_proj:0.30"), Ok(slowdown));
    }
}
