-- admitted (no writes): ARGV 5 'truth', 'mirror' or 'either'.
admit(ARGV[5])
return {1}
