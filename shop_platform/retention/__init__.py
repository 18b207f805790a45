"""Part II: of the users who signed up in a month, how many are active in each of the following weeks."""
