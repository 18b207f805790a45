"""The products of the synthetic shop."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shop_platform.sources.parameters import CATEGORIES

#: Four believable products a category, with prices in euros.
_RANGE: dict[str, tuple[tuple[str, str], ...]] = {
    "Electronics": (
        ("Wireless Noise-Cancelling Headphones", "129.90"),
        ("Portable Bluetooth Speaker", "59.90"),
        ("27-inch 4K Monitor", "329.00"),
        ("Mechanical Keyboard", "89.50"),
    ),
    "Home & Living": (
        ("Linen Duvet Cover Set", "74.90"),
        ("Ceramic Table Lamp", "49.00"),
        ("Cast-Iron Casserole", "64.50"),
        ("Scented Soy Candle", "18.90"),
    ),
    "Fashion": (
        ("Merino Crew-Neck Jumper", "79.00"),
        ("Leather Ankle Boots", "139.00"),
        ("Slim-Fit Denim Jeans", "59.90"),
        ("Cotton T-Shirt, Pack of Two", "24.90"),
    ),
    "Sports & Fitness": (
        ("Adjustable Dumbbell Set", "149.00"),
        ("Non-Slip Yoga Mat", "34.90"),
        ("Trail Running Shoes", "109.00"),
        ("Whey Protein Powder, 1 kg", "29.90"),
    ),
    "Beauty & Care": (
        ("Vitamin C Face Serum", "27.90"),
        ("Electric Toothbrush", "69.90"),
        ("Shea Butter Hand Cream", "9.90"),
        ("Eau de Parfum, 50 ml", "84.00"),
    ),
}


@dataclass(frozen=True)
class Product:
    """One product of the shop."""

    product_id: str
    name: str
    category: str
    price: Decimal


def catalogue(count: int) -> list[Product]:
    """The first `count` products: one of each category in turn; later editions of them beyond the first 20."""
    width = max(2, len(str(count)))
    products = []
    for number in range(count):
        edition, place = divmod(number, 20)
        row, column = divmod(place, len(CATEGORIES))
        category = CATEGORIES[column]
        name, price = _RANGE[category][row]
        if edition:
            name = f"{name}, Edition {edition + 1}"
        # Editions differ by a few per cent, to the cent.
        amount = (Decimal(price) * (100 + edition % 17) / 100).quantize(Decimal("0.01"))
        products.append(Product(f"p{number + 1:0{width}d}", name, category, amount))
    return products
