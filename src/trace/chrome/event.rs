//! One element of `traceEvents`: what of it the reader looks at, borrowed from the text.

use super::category::{Category, category};
use super::scan::{Cursor, Scan, Stop, Text, Value, unescape};

/// A trace event. Where a key is repeated the last one counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Event<'a> {
    /// First letter of `ph`; 0 if there is none.
    pub(super) phase: u8,
    /// First letter of the scope `s` of an instant; 0 if there is none.
    pub(super) scope: u8,
    /// What `cat` stands for.
    pub(super) kind: Category,
    pub(super) category: Option<Text<'a>>,
    pub(super) name: Option<Text<'a>>,
    pub(super) pid: Option<Value<'a>>,
    pub(super) tid: Option<Value<'a>>,
    pub(super) id: Option<Value<'a>>,
    pub(super) ts: Option<Value<'a>>,
    pub(super) dur: Option<Value<'a>>,
    pub(super) args: Args<'a>,
}

/// The arguments of an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Args<'a> {
    /// The whole object.
    pub(super) raw: Option<&'a [u8]>,
    pub(super) correlation: Option<Value<'a>>,
    pub(super) external: Option<Value<'a>>,
    pub(super) device: Option<Value<'a>>,
    pub(super) context: Option<Value<'a>>,
    pub(super) stream: Option<Value<'a>>,
    pub(super) grid: Option<Value<'a>>,
    pub(super) block: Option<Value<'a>>,
    pub(super) registers: Option<Value<'a>>,
    pub(super) shared: Option<Value<'a>>,
    pub(super) graph: Option<Value<'a>>,
    pub(super) graph_exec: Option<Value<'a>>,
    pub(super) graph_node: Option<Value<'a>>,
    pub(super) bytes: Option<Value<'a>>,
    pub(super) kind: Option<Value<'a>>,
    pub(super) shapes: Option<Value<'a>>,
    pub(super) sync_kind: Option<Value<'a>>,
    pub(super) sync_event: Option<Value<'a>>,
    pub(super) name: Option<Value<'a>>,
    pub(super) device_id: Option<Value<'a>>,
    pub(super) device_type: Option<Value<'a>>,
    pub(super) alloc_bytes: Option<Value<'a>>,
    pub(super) alloc_total: Option<Value<'a>>,
}

/// Reads one event, from its opening bracket to its closing one.
pub(super) fn event<'a>(cursor: &mut Cursor<'a>) -> Scan<Event<'a>> {
    let mut event = Event::default();
    if !cursor.open(b'{', b'}', "an event is expected here")? {
        return Ok(event);
    }
    loop {
        let key = cursor.string("a key in quotes is expected here")?;
        cursor.expect(b':', "a colon is expected after a key")?;
        let mut scratch = String::new();
        match plain(key, &mut scratch) {
            b"ph" => {
                let text = cursor.value()?.text();
                event.phase = text.map_or(0, |text| phase(text));
            }
            b"s" => {
                let text = cursor.value()?.text();
                event.scope = text.map_or(0, |text| phase(text));
            }
            b"cat" => {
                event.category = cursor.value()?.text();
                event.kind = event.category.map_or(Category::Other, |text| category(plain(text, &mut scratch)));
            }
            b"name" => event.name = cursor.value()?.text(),
            b"pid" => event.pid = Some(cursor.value()?),
            b"tid" => event.tid = Some(cursor.value()?),
            b"id" => event.id = Some(cursor.value()?),
            b"ts" => event.ts = Some(time(cursor)?),
            b"dur" => event.dur = Some(time(cursor)?),
            b"args" => {
                event.args = Args::default();
                if cursor.peek()? == b'{' {
                    args(cursor, &mut event.args)?;
                } else {
                    cursor.value()?;
                }
            }
            _ => {
                cursor.value()?;
            }
        }
        if !cursor.another(b'}')? {
            return Ok(event);
        }
    }
}

/// The bytes of a key or word; written into `scratch` only where it has escapes.
#[inline]
pub(super) fn plain<'a>(key: Text<'a>, scratch: &'a mut String) -> &'a [u8] {
    if key.escaped { unescape(key, scratch).as_bytes() } else { key.raw }
}

fn phase(text: Text<'_>) -> u8 {
    let mut scratch = String::new();
    match plain(text, &mut scratch) {
        [phase] => *phase,
        // A phase nobody knows.
        _ => b'?',
    }
}

/// A time. `NaN` and `Infinity` are no JSON, and without its time an event says nothing.
fn time<'a>(cursor: &mut Cursor<'a>) -> Scan<Value<'a>> {
    cursor.peek()?;
    let at = cursor.pos;
    let value = cursor.value()?;
    if let Value::Word(word) = value
        && !matches!(word, b"null" | b"true" | b"false")
    {
        return Err(Stop::Bad(at, "a time is not a number"));
    }
    Ok(value)
}

fn args<'a>(cursor: &mut Cursor<'a>, args: &mut Args<'a>) -> Scan<()> {
    let begin = cursor.clone();
    if !cursor.open(b'{', b'}', "arguments are expected here")? {
        return Ok(());
    }
    loop {
        let key = cursor.string("a key in quotes is expected here")?;
        cursor.expect(b':', "a colon is expected after a key")?;
        let value = cursor.value()?;
        let mut scratch = String::new();
        let field = match plain(key, &mut scratch) {
            b"correlation" => Some(&mut args.correlation),
            b"External id" | b"external id" => Some(&mut args.external),
            b"device" | b"inDevice" => Some(&mut args.device),
            b"context" | b"inContext" => Some(&mut args.context),
            b"stream" => Some(&mut args.stream),
            b"grid" => Some(&mut args.grid),
            b"block" => Some(&mut args.block),
            b"registers per thread" => Some(&mut args.registers),
            b"shared memory" => Some(&mut args.shared),
            b"graph id" => Some(&mut args.graph),
            b"graph exec id" => Some(&mut args.graph_exec),
            b"graph node id" => Some(&mut args.graph_node),
            b"bytes" => Some(&mut args.bytes),
            b"kind" => Some(&mut args.kind),
            b"Input Dims" | b"Input dims" => Some(&mut args.shapes),
            b"cuda_sync_kind" => Some(&mut args.sync_kind),
            b"wait_on_cuda_event_id" | b"event_id" => Some(&mut args.sync_event),
            b"name" => Some(&mut args.name),
            b"Device Id" => Some(&mut args.device_id),
            b"Device Type" => Some(&mut args.device_type),
            b"Bytes" => Some(&mut args.alloc_bytes),
            b"Total Allocated" => Some(&mut args.alloc_total),
            _ => None,
        };
        if let Some(field) = field {
            *field = Some(value);
        }
        if !cursor.another(b'}')? {
            args.raw = Some(begin.until(cursor));
            return Ok(());
        }
    }
}
