-- Products of a category. On live tables the platform builds it with CREATE INDEX CONCURRENTLY.
CREATE INDEX idx_products_category ON products (category);
