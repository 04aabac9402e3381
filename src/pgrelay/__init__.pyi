# Types of what __init__.py imports at first use.
from pgrelay.signing import Scheme as Scheme
from pgrelay.signing import WrongSignature as WrongSignature
from pgrelay.signing import examine as examine
from pgrelay.signing import verify as verify

__version__: str
