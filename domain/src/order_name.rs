//! What the payment window calls an order.

#[cfg(test)]
mod tests;

use jangbu_events::OrderLine;

/// The most bytes of UTF-8 that every PG behind PortOne takes (PROTOCOL A6).
const BYTES_MAX: usize = 40;
/// What NICE forbids (PROTOCOL A6); a space takes its place.
const FORBIDDEN: &[char] = &['%', '&', '|', '$', '-', '+', '=', '[', ']'];

/// The first line's name and how many more there are (`손뜨개 가방 외 1건`), at most 40 bytes of
/// UTF-8, in characters that every PG takes. Names longer than that are cut between characters.
pub fn order_name(lines: &[OrderLine]) -> String {
    let others = lines.len().saturating_sub(1);
    let tail = if others == 0 {
        String::new()
    } else {
        format!(" 외 {others}건")
    };
    let spaced: String = lines
        .first()
        .map_or("", |line| line.name.as_str())
        .chars()
        .map(|c| {
            if FORBIDDEN.contains(&c) || c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect();
    let mut name = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        "상품".clone_into(&mut name);
    }
    let mut end = name.len().min(BYTES_MAX - tail.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", name[..end].trim_end())
}
