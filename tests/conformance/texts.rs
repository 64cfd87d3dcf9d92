//! The texts of the frozen part of the protocol, to the letter.

pub(crate) const JOINED: &str = "Một người dùng mới đã tham gia chat";
pub(crate) const LEFT: &str = "Một người dùng đã rời khỏi chat";
pub(crate) const BAD_JSON: &str = "Invalid JSON format";
pub(crate) const BAD_MESSAGE: &str = "Invalid message type";
pub(crate) const EMPTY: &str = "Tên và nội dung không được để trống";
pub(crate) const TOO_LONG: &str = "Tin nhắn quá dài (tối đa 500 ký tự)";
pub(crate) const RATE_LIMITED: &str = "Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây.";
pub(crate) const DASHBOARD_WELCOME: &str =
    "Kết nối dashboard thành công. Đang nhận dữ liệu realtime...";

pub(crate) fn welcome(online: usize) -> String {
    format!("Chào mừng đến chat room! Hiện có {online} người online.")
}

pub(crate) fn presence(online: u64) -> String {
    format!("Hiện có {online} người online.")
}
