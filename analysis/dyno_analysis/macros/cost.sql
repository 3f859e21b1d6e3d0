-- What tokens cost by the endpoint's list prices, the newest that a run was told: cost(endpoint, input_tokens,
-- output_tokens). NULL if a price or a number of tokens isn't known. In a DuckDB of your own: paste prices.sql first.
CREATE OR REPLACE MACRO cost(endpoint, input, output) AS
    (
        input * (SELECT map_from_entries(list((prices.endpoint, prices.input_per_million))) FROM prices)[endpoint]
        + output * (SELECT map_from_entries(list((prices.endpoint, prices.output_per_million))) FROM prices)[endpoint]
    ) / 1e6;
