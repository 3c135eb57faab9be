"""Write the pipeline folder with untrained weights: python -m launcher.flux_tiny.build [FOLDER]"""

import sys
from pathlib import Path

from launcher.flux_tiny import model

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else model.FOLDER
    size = model.save(model.pipeline(), folder)
    print(f"{folder}: {size / 1e6:.2f} MB, untrained weights from seed 0")
