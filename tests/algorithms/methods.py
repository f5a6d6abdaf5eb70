"""The methods that test_properties.py tests, in the settings in which it does: all but critics and MaxRL."""

from __future__ import annotations

from algorithms.base import Algorithm
from algorithms.brpo import BRPO
from algorithms.empg import EMPG
from algorithms.g2po import G2PO
from algorithms.gdpo import GDPO
from algorithms.gigpo import GiGPO
from algorithms.gpg import GPG
from algorithms.graphgpo import GraphGPO
from algorithms.grounded import GroundedPRM
from algorithms.grpo import GRPO
from algorithms.hapo import HAPO
from algorithms.hcapo import HCAPO
from algorithms.hgpo import HGPO
from algorithms.igpo import IGPO
from algorithms.opo import OPO
from algorithms.oprl import OPRL
from algorithms.otb import OTB
from algorithms.passk import PassKGRPO
from algorithms.proxmo import ProxMO
from algorithms.pure import PURE
from algorithms.reinforce import ReinforceBaseline, ReinforcePP
from algorithms.remax import ReMax
from algorithms.rloo import RLOO
from algorithms.salt import SALT
from algorithms.shaped import Shaped
from algorithms.spo_chain import SPOChain
from algorithms.spo_tree import SPOTree
from algorithms.tempo import TEMPO
from algorithms.tree_grpo import TreeGRPO
from algorithms.vineppo import VinePPO
from tests.algorithms.examples import official

METHODS: dict[str, Algorithm] = {
    "gigpo": GiGPO(),
    "gigpo mean": GiGPO(normalize="mean"),
    "gigpo official": GiGPO(**official("gigpo")),
    "gigpo shaped": GiGPO(shaped_at={"invalid_action": "return", "subgoal": "reward"}),
    "grpo": GRPO(),
    "grpo mean": GRPO(normalize="mean"),
    "hapo": HAPO(),
    "hapo bounded": HAPO(bound=1.0, singleton_group="raw"),
    "rloo": RLOO(),
    "rloo official": RLOO(episode_stats="rows", singleton_group="raw"),
    "reinforce_pp_baseline": ReinforceBaseline(),
    "reinforce_pp_baseline official": ReinforceBaseline(episode_stats="rows", singleton_group="raw"),
    "reinforce_pp": ReinforcePP(),
    "reinforce_pp discounted": ReinforcePP(gamma=0.9),
    "reinforce_pp by response": ReinforcePP(span="response"),
    "hgpo": HGPO(),
    "hgpo mean, with episode": HGPO(normalize="mean", history=1, episode=True),
    "hgpo official": HGPO(**{**official("hgpo"), "episode": True}),
    "graphgpo": GraphGPO(),
    "graphgpo progress": GraphGPO(exponent="progress", normalize="mean", gamma=0.8),
    "graphgpo official": GraphGPO(**official("graphgpo")),
    "g2po": G2PO(),
    "g2po not discounted": G2PO(gamma=1.0),
    "g2po official": G2PO(**official("g2po")),
    "proxmo": ProxMO(),
    "proxmo not discounted": ProxMO(gamma=1.0),
    "proxmo official": ProxMO(**official("proxmo")),
    "proxmo exact": ProxMO(grouping="exact", normalize="std"),
    "salt": SALT(),
    "salt rloo": SALT(estimator="rloo", history=1),
    "shaped": Shaped(shaped_at={"subgoal": "advantage"}),
    "oprl": OPRL(),
    "oprl official": OPRL(**official("oprl")),
    "oprl scaled": OPRL(estimator="grpo"),
    "oprl mean": OPRL(estimator="dr_grpo", step_baseline="first"),
    "oprl normalized": OPRL(estimator="reinforce_pp_baseline"),
    "igpo": IGPO(),
    "igpo apart, discounted": IGPO(statistics="separate", gamma=0.9, zero_gain="joins_next", variance_epsilon=1e-8),
    "igpo first release": IGPO(baseline="positions"),
    "opo": OPO(),
    "opo by rows": OPO(episode_stats="rows", singleton_group="raw"),
    "gpg": GPG(),
    "gpg as in verl": GPG(informative="return"),
    "gdpo": GDPO(),
    "gdpo weighted": GDPO(weights={"subgoal": 0.3}, shaped_at={"invalid_action": "return"}),
    "passk_grpo": PassKGRPO(),
    "passk_grpo mean": PassKGRPO(normalize="mean", singleton_group="raw"),
    "remax": ReMax(),
    "otb": OTB(),
    "otb as in verl": OTB(lone_token="raw"),
    "tempo": TEMPO(),
    "tempo mean": TEMPO(normalize="mean", singleton_group="raw"),
    "empg": EMPG(),
    "empg without bonus": EMPG(zeta=0.0, k=2.0),
    "grounded_prm": GroundedPRM(),
    "grounded_prm normalized": GroundedPRM(omega=0.5, normalize=True),
    "brpo": BRPO(budgets=[1, 2]),
    "brpo linear": BRPO(budgets=[1, 3], prior="linear"),
    "brpo at the end": BRPO(budgets=[2], prior="last"),
    "pure": PURE(),
    "pure by mean": PURE(temperature=None, outcome=0.5),
    "hcapo": HCAPO(),
    "hcapo smoothed": HCAPO(alpha=0.5, normalize="mean"),
    "vineppo": VinePPO(),
    "vineppo discounted": VinePPO(gamma=0.9),
    "vineppo normalized": VinePPO(normalize=True),
    "spo_chain": SPOChain(),
    "spo_chain, every token": SPOChain(interval=1, gamma=0.9, certain="credited", normalize=True),
    "spo_tree": SPOTree(),
    "spo_tree by std": SPOTree(normalize="std", certain="credited", zeros="dropped"),
    "tree_grpo": TreeGRPO(),
    "tree_grpo official": TreeGRPO(singleton_group="raw"),
    "tree_grpo nested": TreeGRPO(combine="nested", normalize="mean"),
}
