"""implicit: weighted ALS, BPR, logistic factors, item-item neighbours."""

from __future__ import annotations

from peers import Options, Score, Space, Train, factors, neighbours

DIM = (64, 16, 32, 128)
MODELS = {
    "als": Space(
        {"factors": DIM, "regularization": (0.01, 1.0, 10.0), "alpha": (1.0, 4.0, 16.0)}, True
    ),
    "bpr": Space(
        {
            "factors": DIM,
            "learning_rate": (0.01, 0.05),
            "regularization": (0.01, 0.001, 0.05),
            "iterations": (100, 50, 200),
        },
        True,
    ),
    "lmf": Space(
        {"factors": (30, 64), "regularization": (0.6, 2.0, 6.0), "neg_prop": (30, 10)}, True
    ),
    "cosine": Space({"K": (20, 100, 400)}),
    "tfidf": Space({"K": (20, 100, 400)}),
    "bm25": Space({"K": (20, 100, 400), "K1": (1.2, 0.3), "B": (0.75, 0.3)}),
}


def fit(model: str, train: Train, options: Options, seed: int) -> Score:
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from implicit.cpu.lmf import LogisticMatrixFactorization
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    near = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
    if model in near:
        found = near[model](num_threads=1, **options)
        found.fit(train.matrix, show_progress=False)
        return neighbours(train.matrix, found.similarity.tocsr())
    kinds = {
        "als": AlternatingLeastSquares,
        "bpr": BayesianPersonalizedRanking,
        "lmf": LogisticMatrixFactorization,
    }
    found = kinds[model](num_threads=1, random_state=seed, **options)
    found.fit(train.matrix, show_progress=False)
    return factors(found.user_factors, found.item_factors)
