"""The words that people type into the synthetic shop's search field."""

from __future__ import annotations

#: What is searched for, by category.
THINGS: dict[str, tuple[str, ...]] = {
    "Electronics": (
        "wireless headphones", "bluetooth speaker", "4k monitor", "mechanical keyboard", "usb c charger", "gaming mouse",
        "laptop stand", "external ssd", "smart watch", "webcam", "noise cancelling earbuds", "graphics card",
        "wifi router", "power bank", "hdmi cable", "tablet", "phone case", "microphone", "smart home hub", "vr headset",
    ),
    "Home & Living": (
        "linen bedding", "table lamp", "cast iron pot", "scented candle", "throw blanket", "wall art", "velvet cushion",
        "vase", "rug", "kitchen storage jars", "coffee table", "mirror", "curtains", "dinner plates", "houseplant pot",
        "bath towels",
    ),
    "Fashion": (
        "merino jumper", "ankle boots", "slim jeans", "cotton t shirt", "summer dress", "handbag", "sunglasses",
        "wool coat", "silk scarf", "white trainers", "leather belt", "linen shirt", "earrings", "maxi skirt",
    ),
    "Sports & Fitness": (
        "adjustable dumbbells", "yoga mat", "trail running shoes", "whey protein", "resistance bands", "kettlebell",
        "foam roller", "gym gloves", "running shorts", "heart rate monitor", "pull up bar", "cycling jersey",
        "skipping rope", "creatine", "water bottle", "hiking backpack", "sports bra", "swimming goggles",
    ),
    "Beauty & Care": (
        "vitamin c serum", "electric toothbrush", "hand cream", "perfume", "face mask", "shampoo bar", "lip balm",
        "retinol cream", "hair dryer", "nail polish", "sunscreen", "beard oil", "makeup brushes", "bath salts",
    ),
}  # fmt: skip

#: What goes before or after a thing, by the persona that says so; an empty one is the most frequent.
BEFORE: dict[str, tuple[str, ...]] = {
    "tech_enthusiast": ("", "", "best", "new", "pro", "latest", "rgb", "high end", "sony", "logitech", "samsung", "anker"),
    "lifestyle_shopper": ("", "", "elegant", "boho", "scandinavian", "vintage", "handmade", "luxury", "pastel", "minimalist"),
    "fitness_focused": ("", "", "best", "pro", "lightweight", "home gym", "nike", "adidas", "garmin", "beginner", "marathon"),
    "bargain_hunter": ("cheap", "cheapest", "discount", "budget", "second hand", "clearance", "affordable", "low cost"),
}  # fmt: skip
AFTER: dict[str, tuple[str, ...]] = {
    "tech_enthusiast": ("", "", "", "review", "2025", "specs", "for gaming", "usb c", "low latency", "comparison"),
    "lifestyle_shopper": ("", "", "", "gift ideas", "for her", "for living room", "trends", "set", "neutral colours"),
    "fitness_focused": ("", "", "", "for women", "for men", "workout", "training", "for beginners", "recovery", "outdoor"),
    "bargain_hunter": ("", "", "sale", "under 20", "under 50", "deals", "outlet", "on offer", "coupon", "buy one get one free"),
}  # fmt: skip

#: What anybody may search for, whatever they are interested in.
ANYBODY: tuple[str, ...] = (
    "gift card", "delivery times", "returns", "birthday present", "christmas gift", "new in", "bestsellers", "size guide",
    "free shipping", "order status", "gift for mum", "gift for dad", "batteries", "wrapping paper", "reviews",
    "black friday", "next day delivery", "contact", "voucher code", "store near me", "backpack", "socks", "umbrella",
    "travel mug", "notebook", "phone holder", "sale", "gift wrap", "mothers day", "valentines",
)  # fmt: skip
