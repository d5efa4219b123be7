"""gnopt with its defaults on tables, beside scikit-learn's MLP and trees with theirs."""
