from maskwright.cli import main

main()
